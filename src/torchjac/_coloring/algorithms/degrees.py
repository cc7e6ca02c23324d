"""Degrees at distance 2: the number of neighbors of each vertex, for orders. O(sum of squared net sizes)."""

from __future__ import annotations

import numpy as np

from .graph import BipartiteGraph, Counts, Indices, Pointers
from .numba_kernel import kernel


def distance2_degrees(graph: BipartiteGraph) -> Counts:
    """The number of other vertices that share a net with each vertex, (num_vertices,)."""
    n = graph.num_vertices
    seen, degrees = np.full(n, -1, np.int32), np.zeros(n, np.int32)
    _distance2_degrees.given(graph.pairs)(*graph.by_vertex, *graph.by_net, seen, degrees)
    return degrees


@kernel
def _distance2_degrees(
    v_start: Pointers, v_nets: Indices, n_start: Pointers, n_vertices: Indices, seen: Counts, degrees: Counts
) -> None:
    for v in range(v_start.size - 1):
        seen[v] = v
        degree = 0
        for e in range(v_start[v], v_start[v + 1]):
            net = v_nets[e]
            for k in range(n_start[net], n_start[net + 1]):
                u = n_vertices[k]
                if seen[u] != v:
                    seen[u] = v
                    degree += 1
        degrees[v] = degree
