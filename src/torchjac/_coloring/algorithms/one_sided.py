"""One-sided coloring, of columns or of rows: by a named order, or by the best of several."""

from __future__ import annotations

import numpy as np

from ..._base.words import Colors
from .distance2 import color_distance2
from .graph import BipartiteGraph, Indices
from .iterated import by_classes
from .lattice import lattice_colorings
from .order import vertex_order
from .quotient_graph import quotient
from .search import Search, count

NATURAL, WAVE, PERMUTED, MERGED, BUDGET = 4.0, 12.0, 6.0, 8.0, 9 * 4.0
"""Nanoseconds an entry: natural order, breadth first, coloring in another order, merging vertices; the budget."""

DEGREES = {
    "largest-first": (1.0, 2.2),
    "smallest-last": (1.2, 8.0),
    "dsatur": (1.2, 9.0),
    "incidence-degree": (1.2, 8.0),
}
"""Nanoseconds for each neighbor at distance 2 that is met, and for each that is met for the first time."""

SMALL, FLOOR = 5_000, 6e7
"""A number of entries, and the least budget above it: 60 ms. Below it, all kernels run in plain Python."""

CACHED, MERGEABLE = 100_000, 16
"""Nets up to which jumping between them costs half as much; entries a vertex above which vertices are merged."""

SOURCES = {
    "natural": ("curtis1974",),
    "random": ("curtis1974",),
    "breadth-first": ("cuthill1969",),
    "largest-first": ("welsh1967",),
    "smallest-last": ("matula1983",),
    "incidence-degree": ("coleman1983",),
    "dynamic-largest-first": ("gebremedhin2013",),
    "dsatur": ("brelaz1979",),
}


def budget(unit: float, entries: int) -> float:
    """The nanoseconds that a search may spend: ``unit`` for each entry, but not less than ``FLOOR``."""
    return max(unit * entries, FLOOR if entries > SMALL else 0.0)


def search_distance2(graph: BipartiteGraph, order: str, limit: float, seconds: float | None) -> Search:
    """The search for a partial distance-2 coloring with fewer than ``limit`` colors; its ``colors`` may be None."""
    search = Search(graph.largest_net, limit, budget=budget(BUDGET, graph.nnz), seconds=seconds)
    _greedy(search, graph, "natural" if order == "auto" else order, NATURAL * graph.nnz)
    # Where natural order gives up, it is far from the limit: another order does not bridge it.
    if order == "auto" and search.colors is not None and not search.done:
        _several(search, graph)
    return search


def _greedy(search: Search, graph: BipartiteGraph, name: str, work: float) -> None:
    def make(limit: float) -> Colors | None:
        return color_distance2(graph, None if name == "natural" else vertex_order(graph, name), limit)

    search.offer(name, work, make, "gebremedhin2005", *SOURCES[name])


def _several(search: Search, graph: BipartiteGraph) -> None:
    """Offer all other ways to color, the cheapest first."""
    unit = 1.0 if graph.num_nets > CACHED else 0.5
    if not offer_lattice(search, graph):
        _greedy(search, graph, "breadth-first", unit * WAVE * graph.nnz)
        if graph.nnz > MERGEABLE * graph.num_vertices and search.affords(unit * MERGED * graph.nnz):
            _offer_merged(search, graph, unit * MERGED * graph.nnz)
        near = min(graph.pairs, 8 * graph.nnz)  # in three dimensions, twice the reach has eight times the volume
        for name, (again, first) in DEGREES.items():
            _greedy(search, graph, name, again * graph.pairs + first * near + unit * PERMUTED * graph.nnz)
    improve(search, graph, unit * PERMUTED * graph.nnz)


def _offer_merged(search: Search, graph: BipartiteGraph, work: float) -> None:
    """Offer a coloring of the quotient graph, expanded to all vertices; spends at most the rest of the budget."""
    search.spent += work
    merged = quotient(graph)
    small = merged.graph
    if small.nnz > graph.nnz // 2 or search.done:
        return
    inner = Search(small.largest_net, budget=search.budget - search.spent - PERMUTED * graph.nnz, seconds=search.left)
    _greedy(inner, small, "natural", NATURAL * small.nnz)
    _several(inner, small)
    search.spent += inner.spent
    if inner.colors is not None:
        order = by_color(graph.vertices, merged.expand(inner.colors))  # first fit in it is right, whatever was merged
        search.take(inner.name, color_distance2(graph, order), *inner.sources)


def offer_lattice(search: Search, graph: BipartiteGraph) -> bool:
    """Offer a lattice coloring that is right for all nets; return whether the pattern is such a grid."""
    bound, n = graph.largest_net, graph.num_vertices
    most = int(min(search.limit, 2 * bound + 8)) + 1
    for guess in lattice_colorings(graph.by_net, n, bound, most):
        order = by_color(graph.vertices, guess)  # first fit in this order needs no more colors, if the guess is right
        fitted = color_distance2(graph, order)
        search.spent += PERMUTED * graph.nnz
        search.take("lattice", fitted, "goldfarb1984")
        if fitted is not None and count(fitted) <= count(guess):
            return True
    return False


def by_color(vertices: Indices, colors: Colors) -> Indices:
    """The ``vertices``, sorted by color."""
    return vertices[np.argsort(colors[vertices].astype(np.uint16), kind="stable")]


def improve(search: Search, graph: BipartiteGraph, work: float) -> None:
    """Offer iterated greedy colorings from the best colors: while they improve, or until the time is over."""
    step = idle = 0
    current = search.colors
    while current is not None and not search.done and search.affords(work):
        if search.seconds is None and idle == 3:
            return
        search.spent += work
        again = color_distance2(graph, by_classes(graph.vertices, current, step))
        current = again if again is not None else current
        name, sources = f"improved {search.name.removeprefix('improved ')}", (*search.sources, "culberson1992")
        better = search.take(name, again, *dict.fromkeys(sources))
        step, idle = step + 1, 0 if better else idle + 1
