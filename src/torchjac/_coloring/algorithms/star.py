"""Star coloring: neighbors differ, and a path on four vertices has three colors; for direct recovery.

Gebremedhin, Tarafdar, Manne, Pothen, "New acyclic and star coloring algorithms with application to computing
Hessians", SIAM J. Sci. Comput. 29 (2007), algorithm 4.1. Bicoloring, where rows and columns have palettes of their own
and some vertices stay neutral: Coleman, Verma, "The efficient computation of sparse Jacobian matrices using automatic
differentiation", SIAM J. Sci. Comput. 19 (1998), definition 2.2; Hossain, Steihaug, "Computing a sparse Jacobian
matrix by rows and columns", Optim. Methods Softw. 10 (1998).

Where two colors meet they form stars. A vertex is a *hub* for a color when two neighbors or more have it. The paper
keeps the stars and walks to distance 2; here each vertex keeps three sets of colors as bits, so it only reads its
neighbors, also next to a vertex of huge degree:

    once[w]   colors of w's neighbors
    twice[w]  colors that two of them or more have: w is a hub for these
    hubs[w]   colors of the neighbors that are hubs for w's own color

A vertex v may not take a color of a neighbor w; nor one in hubs[w] (v, w, the hub and its other spoke are a path); nor
one in once[w] when v is a hub for w's color, or when w is neutral, and so has to tell its neighbors apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..._base.words import Colors
from .adjacency import Adjacency
from .distance2 import BIT_NUMBER
from .graph import Indices, Pointers
from .numba_kernel import inlined, kernel

Words = npt.NDArray[np.int64]

NEUTRAL, UNCOLORED = -1, -2


def color_star(graph: Adjacency, order: Indices, limit: float = np.inf, reverse_cost: float = 1.0) -> Colors | None:
    """First-fit star coloring of the vertices in ``order``, all others neutral: (num_vertices,), -1 for neutral.

    With palettes apart a row color counts ``reverse_cost``.
    None when the colors come to ``limit`` or more. O(nnz x colors / 62),
    and for every vertex its degree once for each color it is a hub for.
    """
    words, start, neighbors = 1, graph.start, graph.neighbors
    while True:
        colors = np.full(graph.num_vertices, NEUTRAL, np.int32)
        colors[order] = UNCOLORED
        once, twice, hubs = np.zeros((3, graph.num_vertices * words), np.int64)
        forbidden, prices = np.zeros(words, np.int64), (float(limit), float(reverse_cost))
        run = _color_star.given(6 * neighbors.size)
        used = run(start, neighbors, order, graph.num_rows, *prices, once, twice, hubs, forbidden, BIT_NUMBER, colors)
        if used != TOO_FEW_WORDS:
            return None if used == GIVEN_UP else colors
        words *= 2


def is_star_by_definition(neighbors: Sequence[set[int]], colors: Sequence[int]) -> bool:
    """Whether neighbors differ and no path on four vertices has two colors."""
    for b, near in enumerate(neighbors):
        for c in near:
            ends = ((a, d) for a in near - {c} for d in neighbors[c] - {a, b})
            if colors[b] == colors[c] or any(colors[a] == colors[c] and colors[d] == colors[b] for a, d in ends):
                return False
    return True


GIVEN_UP, TOO_FEW_WORDS = -1, -2


@inlined
def _has(sets: Words, vertex: int, words: int, color: int) -> bool:
    return bool((sets[vertex * words + color // 62] >> (color % 62)) & 1 == 1)


@inlined
def _add(sets: Words, vertex: int, words: int, color: int) -> None:
    sets[vertex * words + color // 62] |= 1 << int(color % 62)  # of an int32, NumPy would shift out the bit


@inlined
def _free(forbidden: Words, bit_number: npt.NDArray[np.int32]) -> int:
    """The smallest color that is not in ``forbidden``; -1 when all are."""
    for k in range(forbidden.size):
        mask = forbidden[k]
        if mask != (1 << 62) - 1:
            return int(62 * k + bit_number[(~mask & (mask + 1)) % 67])
    return -1


@kernel
def _color_star(
    start: Pointers,
    neighbors: Indices,
    order: Indices,
    num_rows: int,
    limit: float,
    reverse_cost: float,
    once: Words,
    twice: Words,
    hubs: Words,
    forbidden: Words,
    bit_number: npt.NDArray[np.int32],
    colors: Colors,
) -> int:
    words = forbidden.size
    most = np.zeros(2, np.int64)
    for v in order:
        for k in range(words):
            forbidden[k] = 0 if num_rows > 0 else once[v * words + k]
        for e in range(start[v], start[v + 1]):
            w = neighbors[e]
            if colors[w] == -2:
                continue
            crowded = colors[w] == -1 or _has(twice, v, words, colors[w])
            for k in range(words):
                forbidden[k] |= hubs[w * words + k]
                if crowded:
                    forbidden[k] |= once[w * words + k]
        color = _free(forbidden, bit_number)
        if color < 0:
            return -2
        side = 1 if v < num_rows else 0
        most[side] = max(most[side], color + 1)
        if most[0] + most[1] * reverse_cost >= limit:
            return -1
        colors[v] = color
        _join(start, neighbors, v, color, words, once, twice, hubs, colors)
    return int(most[0] + most[1])


@inlined
def _join(
    start: Pointers,
    neighbors: Indices,
    v: int,
    color: int,
    words: int,
    once: Words,
    twice: Words,
    hubs: Words,
    colors: Colors,
) -> None:
    """Tell the neighbors of ``v`` that it has ``color`` now."""
    for e in range(start[v], start[v + 1]):
        w = neighbors[e]
        other = colors[w]
        if not _has(once, w, words, color):
            _add(once, w, words, color)
        elif not _has(twice, w, words, color):  # w becomes a hub: at most once for each color
            _add(twice, w, words, color)
            if other >= 0:
                for k in range(start[w], start[w + 1]):
                    if colors[neighbors[k]] == color:
                        _add(hubs, neighbors[k], words, other)
        elif other >= 0:
            _add(hubs, v, words, other)
        if other >= 0 and _has(twice, v, words, other):
            _add(hubs, w, words, color)
