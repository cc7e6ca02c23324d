"""Smallest-last order: the vertex with the fewest uncolored neighbors is colored last, and so on towards the front.

Matula, Beck, "Smallest-last ordering and clustering and graph coloring algorithms", JACM 30 (1983), algorithm SL,
with neighbors at distance 2 as in Gebremedhin, Manne, Pothen, SIAM Review 47 (2005), section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .buckets import insert, remove
from .graph import BipartiteGraph, Counts, Indices, Pointers
from .kernel import kernel


def smallest_last(graph: BipartiteGraph, degrees: Counts) -> Indices:
    """The vertices that have nets, smallest last; ``degrees`` at distance 2. O(sum of squared net sizes)."""
    n, keys = graph.num_vertices, int(degrees.max(initial=0)) + 1
    head, links, seen = np.full(keys, -1, np.int32), np.full((2, n), -1, np.int32), np.full(n, -1, np.int32)
    out = graph.vertices.copy()
    run = _smallest_last.given(3 * graph.pairs)
    run(*graph.by_vertex, *graph.by_net, degrees.copy(), head, links[0], links[1], seen, out)
    return out


def back_degrees_by_definition(neighbors: Sequence[set[int]], order: Sequence[int]) -> list[int]:
    """For each vertex of ``order``, how many of its neighbors come before it: what smallest-last keeps small."""
    return [len(neighbors[v] & set(order[:i])) for i, v in enumerate(order)]


@kernel
def _smallest_last(
    v_start: Pointers,
    v_nets: Indices,
    n_start: Pointers,
    n_vertices: Indices,
    degrees: Counts,
    head: Counts,
    following: Counts,
    previous: Counts,
    seen: Counts,
    out: Indices,
) -> None:
    for k in range(out.size - 1, -1, -1):
        insert(head, following, previous, out[k], degrees[out[k]])
    key = 0
    for place in range(out.size - 1, -1, -1):
        while head[key] < 0:
            key += 1
        v = head[key]
        remove(head, following, previous, v, key)
        out[place] = v
        degrees[v] = -1  # placed
        seen[v] = v
        for e in range(v_start[v], v_start[v + 1]):
            net = v_nets[e]
            for k in range(n_start[net], n_start[net + 1]):
                u = n_vertices[k]
                if seen[u] != v and degrees[u] >= 0:
                    seen[u] = v
                    remove(head, following, previous, u, degrees[u])
                    degrees[u] -= 1
                    insert(head, following, previous, u, degrees[u])
        key = max(key - 1, 0)
