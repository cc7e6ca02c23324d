"""Acyclic coloring: neighbors differ, and a cycle has three colors or more; for recovery by substitution.

Gebremedhin, Tarafdar, Manne, Pothen, "New acyclic and star coloring algorithms with application to computing
Hessians", SIAM J. Sci. Comput. 29 (2007), algorithm 3.1. Bicoloring, where rows and columns have palettes of their own
and some vertices stay neutral: Coleman, Verma, SIAM J. Sci. Comput. 19 (1998), definition 2.3.

Where two colors meet they form trees. All edges from w to its neighbors of one color are in one tree, so a tree is
known by any of its pairs (w, color); the paper's disjoint sets are kept over these pairs, and each vertex lists its
own. Then a vertex of huge degree is as cheap as the few colors around it:

    listed[start[w] + k]  the k-th color that a neighbor of w has; its place, start[w] + k, stands for the pair
    parent[place]         disjoint sets of places, one for each tree

A vertex v may not take a color of a neighbor, nor one that would close a cycle: where two neighbors of one color lead
into the same tree, the other color of that tree. Where w is neutral, v may not take any color that is listed there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ..._base.words import Colors
from .adjacency import Adjacency
from .graph import Counts, Indices, Pointers
from .numba_kernel import inlined, kernel
from .star import NEUTRAL, UNCOLORED

Places = npt.NDArray[np.int64]


def color_acyclic(graph: Adjacency, order: Indices, limit: float = np.inf, reverse_cost: float = 1.0) -> Colors | None:
    """First-fit acyclic coloring of the vertices in ``order``, all others neutral: (num_vertices,), -1 for neutral.

    With palettes apart a row color counts ``reverse_cost``.
    None when the colors come to ``limit`` or more. O(nnz x colors).
    """
    n, edges = graph.num_vertices, graph.neighbors.size
    colors = np.full(n, NEUTRAL, np.int32)
    colors[order] = UNCOLORED
    place = np.int32 if edges < 2**31 else np.int64
    used = _color_acyclic.given(10 * edges)(
        graph.start,
        graph.neighbors,
        order,
        graph.num_rows,
        float(limit),
        float(reverse_cost),
        np.zeros(edges, np.int32),  # listed
        np.zeros(n, np.int32),  # how many are listed
        np.arange(edges, dtype=place),  # parent
        np.full(edges, -1, np.int32),  # the vertex that last met a tree,
        np.zeros(edges, np.int32),  # and the neighbor through which
        np.full(n + 1, -1, np.int32),  # the vertex for which a color was last forbidden
        colors,
    )
    return colors if used >= 0 else None


def is_acyclic(graph: Adjacency, colors: Colors) -> bool:
    """Whether all vertices have a color, neighbors another one, and every cycle three or more. O(nnz x colors)."""
    edges = graph.neighbors.size
    lists = np.zeros(edges, np.int32), np.zeros(graph.num_vertices, np.int32), np.arange(edges)
    return _is_acyclic.given(5 * edges)(graph.start, graph.neighbors, colors, *lists)


def is_acyclic_by_definition(neighbors: Sequence[set[int]], colors: Sequence[int]) -> bool:
    """Whether neighbors differ and any two colors induce a forest: leaves fall off until none is left."""
    if any(colors[v] == colors[u] for v, near in enumerate(neighbors) for u in near):
        return False
    for pair in combinations(set(colors), 2):
        left = {v: {u for u in near if colors[u] in pair} for v, near in enumerate(neighbors) if colors[v] in pair}
        while left:
            leaf = next((v for v, near in left.items() if len(near) <= 1), None)
            if leaf is None:
                return False
            for u in left.pop(leaf):
                left[u].discard(leaf)
    return True


@inlined
def _root(parent: Places, place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = parent[place]
    return place


@inlined
def _place_of(start: Pointers, listed: Counts, count: Counts, w: int, color: int) -> int:
    """The place where ``w`` lists ``color``, which is added to the list if it is not there."""
    first = np.int64(start[w])
    for place in range(first, first + count[w]):
        if listed[place] == color:
            return place
    listed[first + count[w]] = color
    count[w] += 1
    return int(first + count[w] - 1)


@kernel
def _color_acyclic(
    start: Pointers,
    neighbors: Indices,
    order: Indices,
    num_rows: int,
    limit: float,
    reverse_cost: float,
    listed: Counts,
    count: Counts,
    parent: Places,
    met_by: Counts,
    met_through: Counts,
    forbidden: Counts,
    colors: Colors,
) -> int:
    most = np.zeros(2, np.int64)
    for v in order:
        for e in range(start[v], start[v + 1]):
            w = neighbors[e]
            if colors[w] == -2:
                continue
            if num_rows == 0 and colors[w] >= 0:
                forbidden[colors[w]] = v
            first = np.int64(start[w])
            for place in range(first, first + count[w]):
                if colors[w] == -1:
                    forbidden[listed[place]] = v
                elif forbidden[listed[place]] != v:
                    tree = _root(parent, place)
                    if met_by[tree] != v:
                        met_by[tree], met_through[tree] = v, w
                    elif met_through[tree] != w:
                        forbidden[listed[place]] = v
        color = 0
        while forbidden[color] == v:
            color += 1
        side = 1 if v < num_rows else 0
        most[side] = max(most[side], color + 1)
        if most[0] + most[1] * reverse_cost >= limit:
            return -1
        colors[v] = color
        for e in range(start[v], start[v + 1]):
            w = neighbors[e]
            if colors[w] == -2:
                continue
            there = _place_of(start, listed, count, w, color)
            if colors[w] >= 0:
                here = _place_of(start, listed, count, v, colors[w])
                parent[_root(parent, here)] = _root(parent, there)
    return int(most[0] + most[1])


@kernel
def _is_acyclic(
    start: Pointers, neighbors: Indices, colors: Colors, listed: Counts, count: Counts, parent: Places
) -> bool:
    for v in range(colors.size):
        for e in range(start[v], start[v + 1]):
            w = neighbors[e]
            if w > v:
                if colors[v] < 0 or colors[v] == colors[w]:
                    return False
                here = _root(parent, _place_of(start, listed, count, v, colors[w]))
                there = _root(parent, _place_of(start, listed, count, w, colors[v]))
                if here == there:
                    return False
                parent[here] = there
    return True
