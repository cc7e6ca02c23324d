"""Orders that a greedy coloring visits the vertices in, and the names they go by.

An order that follows degrees needs the number of vertices at distance 2 (sharing a net), which costs the sum of the
squares of the net sizes: more than the coloring itself.
"""

from __future__ import annotations

import numpy as np

from .._types import Order
from .graph import BipartiteGraph, Ints
from .kernel import kernel
from .smallest_last import smallest_last


def vertex_order(graph: BipartiteGraph, order: Order, seed: int = 0) -> Ints:
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


def largest_first(graph: BipartiteGraph) -> Ints:
    """Falling distance-2 degree, equals in natural order (Welsh, Powell, The Computer Journal 10 (1967), section 3)."""
    return graph.vertices[np.argsort(-distance2_degrees(graph)[graph.vertices], kind="stable")]


def distance2_degrees(graph: BipartiteGraph) -> Ints:
    """How many other vertices share a net with each, (num_vertices,)."""
    seen = np.full(graph.num_vertices, -1, np.int32)
    return _distance2_degrees(*graph.by_vertex, *graph.by_net, seen, np.zeros(graph.num_vertices, np.int32))


@kernel
def _distance2_degrees(v_ptr: Ints, v_nets: Ints, n_ptr: Ints, n_vertices: Ints, seen: Ints, degrees: Ints) -> Ints:
    for v in range(v_ptr.size - 1):
        seen[v] = v
        degree = 0
        for e in range(v_ptr[v], v_ptr[v + 1]):
            for k in range(n_ptr[v_nets[e]], n_ptr[v_nets[e] + 1]):
                u = n_vertices[k]
                if seen[u] != v:
                    seen[u] = v
                    degree += 1
        degrees[v] = degree
    return degrees
