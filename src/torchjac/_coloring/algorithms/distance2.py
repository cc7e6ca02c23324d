"""Partial distance-2 coloring: two vertices that share a net get different colors.

Greedy first fit: Gebremedhin, Manne, Pothen, "What color is your Jacobian? Graph coloring for computing derivatives",
SIAM Review 47 (2005), algorithm 3.1 (GREEDYPARTIALD2COLORING).

The paper walks from a vertex through its nets to every vertex there: the sum of the squares of the net sizes. Here
each net keeps the set of its colors as the bits of one integer, so a vertex reads its nets and nothing else: O(nnz).
An integer holds 62 colors. A vertex that finds all of them taken waits for the next round, which hands out the next
62; nobody after it could have changed its turn, so the colors are those of the paper's algorithm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..._base.words import Colors
from .graph import BipartiteGraph, Indices, Pointers
from .numba_kernel import kernel

NARROW, ROUND = 30, 62
"""The number of colors in one round: as bits of an int32 or int64, of which all, plus one, do not overflow."""

Taken = npt.NDArray[np.int32] | npt.NDArray[np.int64]

BIT_NUMBER = np.zeros(67, np.int32)  # 2 generates the units modulo 67, so a power of two modulo 67 tells which it is
BIT_NUMBER[[pow(2, k, 67) for k in range(ROUND)]] = np.arange(ROUND)


def color_distance2(graph: BipartiteGraph, order: Indices | None, limit: float = np.inf) -> Colors | None:
    """First-fit colors of the vertices in ``order``, (num_vertices,), -1 for the others; O(nnz) for up to 62 colors.

    Without an ``order`` all vertices that have nets, in natural order.

    None as soon as ``limit`` colors or more are needed: what is not better than the best so far is not worth ending.
    """
    colors = np.full(graph.num_vertices, -1, np.int32)
    if graph.largest_net >= limit:
        return None
    narrow = graph.largest_net <= NARROW // 2  # half the memory to jump in
    taken: Taken = np.zeros(graph.num_nets, np.int32) if narrow else np.zeros(graph.num_nets, np.int64)
    run, waiting = _first_fit.given(2 * graph.nnz), np.empty(graph.num_vertices, np.uint32)
    natural, order = order is None, np.empty(0, np.uint32) if order is None else order
    done = run(
        *graph.by_vertex, natural, order, waiting, taken, NARROW if narrow else ROUND, float(limit), BIT_NUMBER, colors
    )
    return colors if done else None


def color_distance2_by_definition(nets: Sequence[Sequence[int]], order: Sequence[int]) -> dict[int, int]:
    """The colors of ``color_distance2`` by definition, slowly: the smallest that no vertex of a common net has."""
    colors: dict[int, int] = {}
    for v in order:
        forbidden = {colors[u] for net in nets if v in net for u in net if u in colors}
        colors[v] = min(set(range(len(forbidden) + 1)) - forbidden)
    return colors


@kernel
def _first_fit(
    pointers: Pointers,
    nets: Indices,
    natural: bool,
    order: Indices,
    waiting: Indices,
    taken: Taken,
    bits: int,
    limit: float,
    bit_number: npt.NDArray[np.int32],
    colors: Colors,
) -> bool:
    """Fill ``colors``; ``waiting`` is scratch and ``taken`` is used up."""
    full = (1 << bits) - 1
    count, base = pointers.size - 1 if natural else order.size, 0
    while count > 0:
        left = 0
        for k in range(count):
            v = waiting[k] if base > 0 else np.uint32(k) if natural else order[k]
            if pointers[v] == pointers[v + 1]:
                continue
            mask = 0
            for e in range(pointers[v], pointers[v + 1]):
                mask |= taken[nets[e]]
            if mask == full:
                waiting[left] = v
                left += 1
                continue
            bit = ~mask & (mask + 1)
            color = base + bit_number[bit % 67]
            if color >= limit:
                return False
            colors[v] = color
            for e in range(pointers[v], pointers[v + 1]):
                taken[nets[e]] |= bit
        taken[:] = 0
        count, base = left, base + bits
    return True
