"""Dynamic orders, by the number of neighbors that are ordered already: smallest-last and two others.

    smallest-last           the fewest neighbors left, from the last place to the first
    dynamic-largest-first   the most neighbors left, from the first place to the last
    incidence-degree        the most neighbors ordered, from the first place to the last

Smallest last: Matula, Beck, "Smallest-last ordering and clustering and graph coloring algorithms", JACM 30 (1983),
algorithm SL. Incidence degree: Coleman, Moré, "Estimation of sparse Jacobian matrices and graph coloring problems",
SIAM J. Numer. Anal. 20 (1983), section 4. All at distance 2: Gebremedhin, Nguyen, Patwary, Pothen, "ColPack: software
for graph coloring and related problems in scientific computing", ACM TOMS 40 (2013), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .buckets import insert, remove
from .degrees import distance2_degrees
from .graph import BipartiteGraph, Counts, Indices, Pointers
from .numba_kernel import kernel


def smallest_last(graph: BipartiteGraph) -> Indices:
    """The vertices that have nets, last the one with the fewest neighbors left. O(sum of squared net sizes)."""
    return _walk(graph, distance2_degrees(graph), most=False, step=-1)[::-1].copy()


def dynamic_largest_first(graph: BipartiteGraph) -> Indices:
    """The vertices that have nets, first the one with the most neighbors left. O(sum of squared net sizes)."""
    return _walk(graph, distance2_degrees(graph), most=True, step=-1)


def incidence_degree(graph: BipartiteGraph) -> Indices:
    """The vertices that have nets, first the one with the most ordered neighbors. O(sum of squared net sizes)."""
    return _walk(graph, np.zeros(graph.num_vertices, np.int32), most=True, step=1)


def dynamic_order_by_definition(neighbors: Sequence[set[int]], order: Sequence[int]) -> list[int]:
    """The number of neighbors of each vertex that come before it in ``order``."""
    return [len(neighbors[v] & set(order[:i])) for i, v in enumerate(order)]


def _walk(graph: BipartiteGraph, keys: Counts, most: bool, step: int) -> Indices:
    n = graph.num_vertices
    largest = int(keys.max(initial=0)) if step < 0 else int(distance2_degrees(graph).max(initial=0))
    head, links, seen = np.full(largest + 2, -1, np.int32), np.full((2, n), -1, np.int32), np.full(n, -1, np.int32)
    out = graph.vertices.copy()
    run = _dynamic.given(3 * graph.pairs)
    run(*graph.by_vertex, *graph.by_net, keys.copy(), most, step, head, links[0], links[1], seen, out)
    return out


@kernel
def _dynamic(
    v_start: Pointers,
    v_nets: Indices,
    n_start: Pointers,
    n_vertices: Indices,
    keys: Counts,
    most: bool,
    step: int,
    head: Counts,
    following: Counts,
    previous: Counts,
    seen: Counts,
    out: Indices,
) -> None:
    for k in range(out.size - 1, -1, -1):
        insert(head, following, previous, out[k], keys[out[k]])
    key = head.size - 1 if most else 0
    for place in range(out.size):
        while head[key] < 0:
            key += -1 if most else 1
        v = head[key]
        remove(head, following, previous, v, key)
        out[place] = v
        keys[v] = -1  # placed
        seen[v] = v
        for e in range(v_start[v], v_start[v + 1]):
            net = v_nets[e]
            for k in range(n_start[net], n_start[net + 1]):
                u = n_vertices[k]
                if seen[u] != v and keys[u] >= 0:
                    seen[u] = v
                    remove(head, following, previous, u, keys[u])
                    keys[u] += step
                    insert(head, following, previous, u, keys[u])
        if most and step > 0:
            key += 1
        elif not most:
            key = max(key - 1, 0)
