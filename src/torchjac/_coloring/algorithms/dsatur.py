"""The DSATUR order: the next vertex is the one with the most colors around it, among equals the largest degree.

Brélaz, "New methods to color the vertices of a graph", Comm. ACM 22 (1979), algorithm DSATUR. It picks by the colors
it gives, the smallest that are free; so first fit in the order of its picks gives its coloring.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .buckets import insert, remove
from .degrees import distance2_degrees
from .graph import BipartiteGraph, Counts, Indices, Pointers
from .numba_kernel import kernel


def dsatur(graph: BipartiteGraph) -> Indices:
    """The vertices that have nets, in the order DSATUR colors them. O(sum of squared net sizes)."""
    n, vertices = graph.num_vertices, graph.vertices
    degrees = distance2_degrees(graph)
    largest_first = vertices[np.argsort(-degrees[vertices], kind="stable")]
    words = graph.largest_net // 62 + 1
    while True:
        out = largest_first.copy()
        head, links = np.full(62 * words + 2, -1, np.int32), np.full((2, n), -1, np.int32)
        keys, seen, sets = np.zeros(n, np.int32), np.full(n, -1, np.int32), np.zeros(n * words, np.int64)
        run = _dsatur.given(3 * graph.pairs)
        if run(*graph.by_vertex, *graph.by_net, keys, head, links[0], links[1], seen, sets, words, out):
            return out
        words *= 2


@kernel
def _dsatur(
    v_start: Pointers,
    v_nets: Indices,
    n_start: Pointers,
    n_vertices: Indices,
    keys: Counts,
    head: Counts,
    following: Counts,
    previous: Counts,
    seen: Counts,
    sets: npt.NDArray[np.int64],
    words: int,
    out: Indices,
) -> bool:
    """Fill ``out``; False when ``words`` are too few for the colors."""
    for k in range(out.size - 1, -1, -1):
        insert(head, following, previous, out[k], 0)
    key = 0
    for place in range(out.size):
        while head[key] < 0:
            key -= 1
        v = head[key]
        remove(head, following, previous, v, key)
        out[place] = v
        keys[v] = -1
        seen[v] = v
        word = 0
        while word < words and sets[v * words + word] == (1 << 62) - 1:
            word += 1
        if word == words:
            return False
        mask = sets[v * words + word]
        bit = ~mask & (mask + 1)
        for e in range(v_start[v], v_start[v + 1]):
            net = v_nets[e]
            for k in range(n_start[net], n_start[net + 1]):
                u = n_vertices[k]
                if seen[u] != v:
                    seen[u] = v
                    if keys[u] >= 0 and sets[u * words + word] & bit == 0:
                        sets[u * words + word] |= bit
                        remove(head, following, previous, u, keys[u])
                        keys[u] += 1
                        insert(head, following, previous, u, keys[u])
                        key = max(key, keys[u])
    return True
