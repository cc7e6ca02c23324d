"""Orders that a greedy coloring visits the vertices in, and the names they go by.

An order that follows degrees needs the number of vertices at distance 2 (sharing a net), which costs the sum of the
squares of the net sizes: more than the coloring itself.
"""

from __future__ import annotations

import numpy as np

from .._types import Order
from .graph import BipartiteGraph, Counts, Indices, Pointers
from .kernel import kernel
from .smallest_last import smallest_last


def vertex_order(graph: BipartiteGraph, order: Order, seed: int = 0) -> Indices:
    """The vertices of ``graph`` that have nets, in the named order."""
    if order == "natural":
        return graph.vertices
    if order == "random":
        return np.random.default_rng(seed).permutation(graph.vertices)
    if order == "largest-first":
        return largest_first(graph)
    if order == "smallest-last":
        return smallest_last(graph, distance2_degrees(graph))
    raise NotImplementedError(order)


def largest_first(graph: BipartiteGraph) -> Indices:
    """Falling distance-2 degree, equals in natural order (Welsh, Powell, The Computer Journal 10 (1967), section 3)."""
    return graph.vertices[np.argsort(-distance2_degrees(graph)[graph.vertices], kind="stable")]


def distance2_degrees(graph: BipartiteGraph) -> Counts:
    """How many other vertices share a net with each, (num_vertices,)."""
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
