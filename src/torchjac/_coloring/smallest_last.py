"""Smallest-last order: the vertex with the fewest uncolored neighbors is colored last, and so on towards the front.

Matula, Beck, "Smallest-last ordering and clustering and graph coloring algorithms", JACM 30 (1983), algorithm SL,
with neighbors at distance 2 as in Gebremedhin, Manne, Pothen, SIAM Review 47 (2005), section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .buckets import insert, remove
from .graph import BipartiteGraph, Ints
from .kernel import kernel


def smallest_last(graph: BipartiteGraph, degrees: Ints) -> Ints:
    """The vertices that have nets, smallest last; ``degrees`` at distance 2. O(sum of squared net sizes)."""
    n, size = graph.num_vertices, int(degrees.max(initial=0)) + 1
    links = np.full((3, max(n, size)), -1, np.int32)
    out = graph.vertices.copy()
    return _smallest_last(*graph.by_vertex, *graph.by_net, degrees.copy(), links[0, :size], links[1], links[2], out)


def back_degrees_by_definition(neighbors: Sequence[set[int]], order: Sequence[int]) -> list[int]:
    """For each vertex of ``order``, how many of its neighbors come before it: what smallest-last keeps small."""
    return [len(neighbors[v] & set(order[:i])) for i, v in enumerate(order)]


@kernel
def _smallest_last(
    v_ptr: Ints, v_nets: Ints, n_ptr: Ints, n_vertices: Ints, degrees: Ints,
    head: Ints, following: Ints, previous: Ints, out: Ints,
) -> Ints:  # fmt: skip
    seen = np.full(v_ptr.size - 1, -1, np.int32)
    for k in range(out.size):
        insert(head, following, previous, out[out.size - 1 - k], degrees[out[out.size - 1 - k]])
    key = 0
    for place in range(out.size - 1, -1, -1):
        while head[key] < 0:
            key += 1
        v = head[key]
        remove(head, following, previous, v, key)
        out[place] = v
        degrees[v] = -1  # placed
        seen[v] = v
        for e in range(v_ptr[v], v_ptr[v + 1]):
            for k in range(n_ptr[v_nets[e]], n_ptr[v_nets[e] + 1]):
                u = n_vertices[k]
                if seen[u] != v and degrees[u] >= 0:
                    seen[u] = v
                    remove(head, following, previous, u, degrees[u])
                    degrees[u] -= 1
                    insert(head, following, previous, u, degrees[u])
        key = max(key - 1, 0)
    return out
