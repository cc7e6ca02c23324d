"""Bidirectional coloring: peeling picks the rows and columns to color, a star or acyclic bicoloring colors them.

The entries that neither side could take cheaply alone are shared out: dense rows go to reverse products, dense
columns to forward products, and what is left to one of the two. Every way to stop the peeling is a candidate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..._base.words import Colors, Recovery
from ..._matrices.pattern import SparsityPattern
from ..colors import BidirectionalColors
from ..equations import bidirectional
from .acyclic import color_acyclic
from .adjacency import Adjacency, bipartite_adjacency
from .bounds import equations_bound
from .graph import Indices
from .neutral_colors import needed_products, renumber
from .one_sided import SOURCES
from .order import vertex_order
from .peel import Peeling, peel
from .search import Search, count
from .star import color_star

RUN, RUNS, TINY, STOPS, PAIRS = 30.0, 150, 500, 12, 60
"""Nanoseconds an entry of one bicoloring; how many of them at most, 16 up to TINY entries; stops of a peeling;
neighbors at distance 2 an entry up to which an order may look at them."""


def color_bidirectional(
    pattern: SparsityPattern, order: str, recovery: Recovery, reverse_cost: float, seconds: float | None
) -> BidirectionalColors:
    """The cheapest bicoloring found, a row color costing ``reverse_cost``. O(nnz) for each candidate."""
    graph = bipartite_adjacency(pattern)
    method = color_star if recovery == "direct" else color_acyclic
    m = pattern.shape[0]
    bound = _bound(graph, m, reverse_cost)

    def price(colors: Colors) -> float:
        return count(colors[m:]) + reverse_cost * count(colors[:m])

    search = Search(
        bound, budget=(RUNS if pattern.nnz > TINY else 16) * RUN * pattern.nnz, seconds=seconds, price=price
    )
    for name, vertices in _candidates(graph, order):
        sources = ("coleman1998", "gebremedhin2007", *SOURCES[name])
        if search.affords(RUN * pattern.nnz):
            search.spent += RUN * pattern.nnz
            search.take(name, method(graph, vertices, search.limit, reverse_cost), *sources)
        if search.done:
            break
    assert search.colors is not None  # the first offer is always taken
    found = search.colors[m:], search.colors[:m]
    if search.limit > bound:
        found = _without_neutral(pattern, *found, reverse_cost)
    fewer = count(found[0]) + count(found[1]) < count(search.colors[m:]) + count(search.colors[:m])
    return BidirectionalColors(
        column_colors=found[0],
        row_colors=found[1],
        num_colors=count(found[0]) + count(found[1]),
        lower_bound=int(_bound(graph, m, 1.0)),
        order=search.name,
        shape=pattern.shape,
        sources=(*search.sources, "montoison2025") if fewer else search.sources,
        recovery=recovery,
    )


def _candidates(graph: Adjacency, order: str) -> Iterator[tuple[str, Indices]]:
    """Candidates: the name of an order, and the vertices to color in that order; the others stay neutral."""
    degrees = order if order != "auto" else "smallest-last"
    close = graph.distance2 if graph.distance2.pairs <= PAIRS * graph.neighbors.size else graph.distance1
    peelings: list[Peeling] = []
    rank = _rank(graph, vertex_order(close, degrees)) if order != "auto" else None
    for rows, columns in ((True, True), (False, True), (True, False)):
        peeling = peel(graph, rows, columns)
        peelings.append(peeling)
        for stop in peeling.stops(STOPS):
            for side in ("column", "row"):
                peeled, core = peeling.cover(stop, side)
                if rank is None:
                    yield "natural", np.concatenate([core, peeled])
                else:
                    yield order, _sorted(np.concatenate([core, peeled]), rank)
    if order == "auto":
        yield from _by_rank(peelings, _rank(graph, vertex_order(close, degrees)), degrees)


def _by_rank(peelings: list[Peeling], rank: Indices, name: str) -> Iterator[tuple[str, Indices]]:
    """Candidates in the order of ``rank``: all vertices together, or the core after or before the peeled lines."""
    for peeling in peelings:
        for stop in peeling.stops(STOPS):
            for side in ("column", "row"):
                peeled, core = peeling.cover(stop, side)
                core = _sorted(core, rank)
                yield name, _sorted(np.concatenate([core, peeled]), rank)
                yield name, np.concatenate([peeled, core])
                yield name, np.concatenate([core, peeled])


def _rank(graph: Adjacency, order: Indices) -> Indices:
    rank = np.zeros(graph.num_vertices, np.uint32)
    rank[order] = np.arange(order.size, dtype=np.uint32)
    return rank


def _sorted(vertices: Indices, rank: Indices) -> Indices:
    return vertices[np.argsort(rank[vertices], kind="stable")]


def _bound(graph: Adjacency, m: int, reverse_cost: float) -> float:
    used = np.diff(graph.start.view(np.int64)) > 0
    return equations_bound(graph.neighbors.size // 2, int(used[:m].sum()), int(used[m:].sum()), reverse_cost)


def _without_neutral(
    pattern: SparsityPattern, columns: Colors, rows: Colors, reverse_cost: float
) -> tuple[Colors, Colors]:
    (m, n), forward, reverse = pattern.shape, count(columns), count(rows)
    equations = bidirectional(pattern, columns, rows)
    product = np.where(equations.places >= 0, equations.places // max(m, 1), -1)
    product[1] = np.where(equations.places[1] >= 0, (equations.places[1] - forward * m) // max(n, 1) + forward, -1)
    cost = np.concatenate([np.ones(forward), np.full(reverse, reverse_cost)])
    needed = needed_products(equations, product, cost)
    return renumber(columns, needed[:forward]), renumber(rows, needed[forward:])
