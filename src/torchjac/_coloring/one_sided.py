"""A column or a row coloring by a named order, or by the best of several."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from .._equations import Colors
from .distance2 import color_distance2
from .graph import BipartiteGraph, Indices
from .iterated import by_classes
from .lattice import lattice_colorings
from .order import ORDERS, vertex_order
from .search import Search, count
from .twins import quotient

NATURAL, WAVE, PERMUTED, MERGED, BUDGET = 4.0, 12.0, 6.0, 8.0, 9 * 4.0
"""Nanoseconds an entry: natural order, breadth first, coloring in another order, merging twins; what may be spent."""

CACHED = 100_000
"""Nets up to which jumping between them costs half as much."""

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
    search = Search(graph.largest_net, limit, budget=BUDGET * graph.nnz, seconds=seconds)

    def greedy(name: str, vertices: Callable[[], Indices], work: float) -> None:
        def make(limit: float) -> Colors | None:
            return color_distance2(graph, vertices(), limit)

        search.offer(name, work, make, "gebremedhin2005", *SOURCES[name])

    entries = graph.nnz if graph.num_nets > CACHED else graph.nnz / 2
    if order != "auto":
        greedy(order, lambda: vertex_order(graph, order), 0.0)
        return search
    greedy("natural", lambda: graph.vertices, NATURAL * graph.nnz)
    if search.colors is None or search.done:
        return search  # where there is none, natural order is far from the limit: another order does not bridge it
    if not offer_lattice(search, graph):
        greedy("breadth-first", lambda: vertex_order(graph, "breadth-first"), WAVE * entries)
        by_degrees = graph
        if graph.nnz > 16 * graph.num_vertices and search.affords(MERGED * entries) and not search.done:
            search.spent += MERGED * entries
            merged = quotient(graph)
            by_degrees = merged.graph if merged.graph.nnz < graph.nnz // 2 else graph
        for name, unit in (("largest-first", 0.8), ("smallest-last", 3.0)):
            if by_degrees is graph:
                ordered = partial(vertex_order, graph, name)
            else:
                ordered = partial(merged.order, ORDERS[name])
            greedy(name, ordered, unit * by_degrees.pairs + PERMUTED * entries)
    improve(search, graph)
    return search


def offer_lattice(search: Search, graph: BipartiteGraph) -> bool:
    """Offer a lattice coloring that is right for all nets; whether the pattern is a grid where one might be."""
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
    """``vertices`` sorted by color."""
    return vertices[np.argsort(colors[vertices].astype(np.uint16), kind="stable")]


def improve(search: Search, graph: BipartiteGraph) -> None:
    """Iterated greedy from the best colors: while it pays, or until the time is over."""
    step = idle = 0
    current, work = search.colors, PERMUTED * (graph.nnz if graph.num_nets > CACHED else graph.nnz / 2)
    while current is not None and not search.done and search.affords(work):
        if search.seconds is None and idle == 3:
            return
        again = color_distance2(graph, by_classes(graph.vertices, current, step))
        current = again if again is not None else current
        name, sources = f"improved {search.name.removeprefix('improved ')}", (*search.sources, "culberson1992")
        search.spent += work
        better = search.take(name, again, *dict.fromkeys(sources))
        step, idle = step + 1, 0 if better else idle + 1
