"""A column or a row coloring by a named order, or by the best of several."""

from __future__ import annotations

import numpy as np

from .._colors import Colors
from .distance2 import color_distance2
from .graph import BipartiteGraph, Indices
from .iterated import by_classes
from .lattice import lattice_colorings
from .order import vertex_order
from .search import Search

NATURAL, IMPROVED, LATTICE = 4.0, 6.0, 5e6
"""Nanoseconds: natural order and iterated greedy, an entry; guessing a lattice."""

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


def search_distance2(graph: BipartiteGraph, order: str, limit: float, seconds: float | None) -> Search:
    """The search for a partial distance-2 coloring with fewer than ``limit`` colors; its ``colors`` may be None."""
    search = Search(graph.largest_net, limit, budget=8 * NATURAL * graph.nnz, seconds=seconds)

    def greedy(name: str, work: float) -> bool:
        def make(limit: float) -> Colors | None:
            return color_distance2(graph, vertex_order(graph, name), limit)

        return search.offer(name, work, make, "gebremedhin2005", *SOURCES[name])

    if order != "auto":
        greedy(order, 0.0)
        return search
    if not greedy("natural", NATURAL * graph.nnz) and not search.colors is not None:
        return search  # far from what the other side has: another order does not bridge it
    greedy("breadth-first", 10.0 * graph.nnz)
    search.offer("lattice", LATTICE if graph.nnz > 1e6 else 0.0, lambda limit: color_lattice(graph, limit), "goldfarb1984")
    greedy("largest-first", 0.8 * graph.pairs + 5 * graph.nnz)
    greedy("smallest-last", 7.0 * graph.pairs + 5 * graph.nnz)
    improve(search, graph)
    return search


def color_lattice(graph: BipartiteGraph, limit: float) -> Colors | None:
    """A lattice coloring with fewer than ``limit`` colors that is right for all nets, if one is guessed."""
    most = int(min(limit, graph.largest_net + 8))
    for colors in lattice_colorings(graph.by_net, graph.num_vertices, graph.largest_net, most):
        fitted = color_distance2(graph, by_color(graph.vertices, colors), limit)
        if fitted is not None:
            return fitted
    return None


def by_color(vertices: Indices, colors: Colors) -> Indices:
    """``vertices`` sorted by color: first fit in this order has no more colors, if the coloring is valid."""
    return vertices[np.argsort(colors[vertices].astype(np.uint16), kind="stable")]


def improve(search: Search, graph: BipartiteGraph) -> None:
    """Iterated greedy from the best colors: while it pays, or until the time is over."""
    step = idle = 0
    current = search.colors
    while current is not None and not search.done and search.affords(IMPROVED * graph.nnz):
        if search.seconds is None and idle == 3:
            return
        again = color_distance2(graph, by_classes(graph.vertices, current, step))
        current = again if again is not None else current
        name, sources = f"improved {search.name.removeprefix('improved ')}", (*search.sources, "culberson1992")
        better = search.offer(name, IMPROVED * graph.nnz, lambda limit, found=again: found, *dict.fromkeys(sources))
        step, idle = step + 1, 0 if better else idle + 1
