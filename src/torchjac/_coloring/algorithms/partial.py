"""Partial coloring: when only some entries are wanted, only columns that would disturb these must differ.

Two columns may not share a color if a row has a wanted entry in one of them and any entry in the other. Columns without
a wanted entry take part in no product and need no color. (Gebremedhin, Manne, Pothen, "What color is your Jacobian?
Graph coloring for computing derivatives", SIAM Review 47 (2005), on the estimation of a part of a matrix.)

First fit as in ``distance2``, with two sets of colors a net instead of one: of all vertices that are in it, which a
vertex wanted there must avoid, and of those wanted there, which every vertex in it must avoid. O(nnz).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..._base.words import Colors
from ..._matrices.pattern import SparsityPattern
from .distance2 import BIT_NUMBER, ROUND
from .graph import BipartiteGraph, Indices, Pointers
from .iterated import by_classes
from .numba_kernel import kernel
from .one_sided import BUDGET, NATURAL, PERMUTED, SOURCES, budget
from .order import vertex_order
from .search import Search

Mask = npt.NDArray[np.bool_]
Taken = npt.NDArray[np.int64]

_ORDERS = ("largest-first", "smallest-last")
_STEP = 40.0  # nanoseconds to meet a neighbor at distance 2 while ordering by degree


@dataclass(frozen=True, eq=False)
class Wanted:
    """The graph of the columns and rows with a wanted entry, and a mask of the wanted entries."""

    graph: BipartiteGraph
    wanted: Mask
    """A mask of the wanted entries, in the order of ``graph.by_vertex``: (nnz of the graph,)."""
    bound: int
    """A lower bound on the colors: the wanted columns of a row must differ, and from one more that is there."""


def restrict(pattern: SparsityPattern, entries: SparsityPattern) -> Wanted:
    """The part of ``pattern`` in the rows and columns that have a wanted entry."""
    m, n = pattern.shape
    entries = pattern & entries
    rows, columns = np.zeros(m, bool), np.zeros(n, bool)
    rows[entries.rows], columns[entries.indices] = True, True
    kept = np.flatnonzero(rows[pattern.rows] & columns[pattern.indices])
    nets, vertices, wanted = pattern.rows[kept], pattern.indices[kept], entries.has(pattern)[kept]
    order = np.argsort(vertices, kind="stable")
    pointers = np.concatenate([[0], np.cumsum(np.bincount(vertices, minlength=n))]).astype(np.uint64)
    graph = BipartiteGraph(n, m, _by_vertex=(pointers, nets[order].astype(np.uint32)))
    asked, there = np.bincount(nets[wanted], minlength=m), np.bincount(nets, minlength=m)
    return Wanted(graph, wanted[order], int((asked + (there > asked)).max(initial=0)))


def search_partial(pattern: SparsityPattern, entries: SparsityPattern, order: str, seconds: float | None) -> Search:
    """The search for colors of the columns of ``pattern`` with which the ``entries`` in it can be read off."""
    if pattern.nnz == pattern.shape[0] * pattern.shape[1]:  # all meet in every row
        return _each_its_own(pattern, entries)
    wanted = restrict(pattern, entries)
    graph = wanted.graph
    search = Search(wanted.bound, budget=budget(BUDGET, graph.nnz), seconds=seconds)

    def offer(name: str, work: float) -> None:
        search.offer(
            name,
            work,
            lambda limit: color_partial(wanted, vertex_order(graph, name)),
            "gebremedhin2005",
            *SOURCES[name],
        )

    offer("natural" if order == "auto" else order, NATURAL * graph.nnz)
    if order != "auto":
        return search
    for name in _ORDERS:
        if not search.done and search.affords(_STEP * graph.nnz):
            offer(name, _STEP * graph.pairs)
    step = idle = 0
    while not search.done and search.affords(PERMUTED * graph.nnz) and (seconds is not None or idle < 3):
        search.spent += PERMUTED * graph.nnz
        assert search.colors is not None  # the first offer is always taken
        again = color_partial(wanted, by_classes(graph.vertices, search.colors, step))
        name = f"improved {search.name.removeprefix('improved ')}"
        better = search.take(name, again, *dict.fromkeys((*search.sources, "culberson1992")))
        step, idle = step + 1, 0 if better else idle + 1
    return search


def _each_its_own(pattern: SparsityPattern, entries: SparsityPattern) -> Search:
    colors = np.full(pattern.shape[1], -1, np.int32)
    columns = np.unique(entries.indices)
    colors[columns] = np.arange(columns.size)
    search = Search(columns.size)
    search.take("natural", colors, "gebremedhin2005")
    return search


def color_partial(wanted: Wanted, order: Indices) -> Colors:
    """First-fit colors of the vertices in ``order``, (num_vertices,), -1 for the others."""
    graph = wanted.graph
    colors = np.full(graph.num_vertices, -1, np.int32)
    present, asked = np.zeros(graph.num_nets, np.int64), np.zeros(graph.num_nets, np.int64)
    waiting = np.empty(graph.num_vertices, np.uint32)
    run = _first_fit.given(2 * graph.nnz)
    run(*graph.by_vertex, wanted.wanted, order.astype(np.uint32), waiting, present, asked, ROUND, BIT_NUMBER, colors)
    return colors


def color_partial_by_definition(nets: Sequence[tuple[set[int], set[int]]], order: Sequence[int]) -> dict[int, int]:
    """The colors of ``color_partial`` by definition, slowly, from the (wanted, all) vertices of each net."""
    colors: dict[int, int] = {}
    for v in order:
        way = [there if v in asked else asked for asked, there in nets if v in there]
        forbidden = {colors[u] for others in way for u in others if u in colors}
        colors[v] = min(set(range(len(forbidden) + 1)) - forbidden)
    return colors


@kernel
def _first_fit(
    pointers: Pointers,
    nets: Indices,
    wanted: Mask,
    order: Indices,
    waiting: Indices,
    present: Taken,
    asked: Taken,
    bits: int,
    bit_number: npt.NDArray[np.int32],
    colors: Colors,
) -> None:
    """Fill ``colors``; ``waiting`` is scratch, ``present`` and ``asked`` are used up. Rounds as in ``distance2``."""
    full = (1 << bits) - 1
    count, base = order.size, 0
    while count > 0:
        left = 0
        for k in range(count):
            v = waiting[k] if base > 0 else order[k]
            mask = 0
            for e in range(pointers[v], pointers[v + 1]):
                mask |= present[nets[e]] if wanted[e] else asked[nets[e]]
            if mask == full:
                waiting[left] = v
                left += 1
                continue
            bit = ~mask & (mask + 1)
            colors[v] = base + bit_number[bit % 67]
            for e in range(pointers[v], pointers[v + 1]):
                present[nets[e]] |= bit
                if wanted[e]:
                    asked[nets[e]] |= bit
        present[:] = 0
        asked[:] = 0
        count, base = left, base + bits
