"""Breadth-first order: a wave from one vertex over the pattern, O(nnz); on meshes nearly as good as smallest-last.

Cuthill, McKee, "Reducing the bandwidth of sparse symmetric matrices", Proc. 24th ACM Conf. (1969), without the sorting
by degree. First fit follows the wave, so a vertex has only the neighbors behind it to avoid.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .graph import BipartiteGraph, Indices, Pointers
from .numba_kernel import kernel


def breadth_first(graph: BipartiteGraph) -> Indices:
    """The vertices that have nets, wave by wave from the first, and again in each connected component."""
    out = graph.vertices.copy()
    met, walked = np.zeros(graph.num_vertices, np.bool_), np.zeros(graph.num_nets, np.bool_)
    _breadth_first.given(2 * graph.nnz)(*graph.by_vertex, *graph.by_net, met, walked, graph.vertices, out)
    return out


@kernel
def _breadth_first(
    v_start: Pointers,
    v_nets: Indices,
    n_start: Pointers,
    n_vertices: Indices,
    met: npt.NDArray[np.bool_],
    walked: npt.NDArray[np.bool_],
    vertices: Indices,
    out: Indices,
) -> None:
    count, done = 0, 0
    for first in vertices:
        if met[first]:
            continue
        met[first] = True
        out[count] = first
        count += 1
        while done < count:
            v = out[done]
            done += 1
            for e in range(v_start[v], v_start[v + 1]):
                net = v_nets[e]
                if not walked[net]:
                    walked[net] = True
                    for k in range(n_start[net], n_start[net + 1]):
                        u = n_vertices[k]
                        if not met[u]:
                            met[u] = True
                            out[count] = u
                            count += 1
