"""The quotient graph: one of each set of vertices in the same nets, and one of each set of equal nets.

Vertices in the same nets are *twins*, as when every node has several unknowns. Orders by degree cost the sum of the
squared net sizes. With d unknowns a node that is d^3 times what it has to be:
one of each set of twins is colored, and its twins take the colors beside it ("indistinguishable" vertices: George,
Liu, "The evolution of the minimum degree ordering algorithm", SIAM Review 31 (1989), section 3.1). Twins are told by a
sum of random numbers, which may, once in 10^18, be wrong: the caller colors all vertices again in the order of the
colors from here, which costs no color if they are right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..._base.words import Colors
from .graph import BipartiteGraph, Indices, Pointers
from .numba_kernel import kernel

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class QuotientGraph:
    """The graph of one vertex of each set of twins, and the map from all vertices to it.

    Attributes
    ----------
    graph: of the vertices and nets that are kept, renumbered.
    whose: (num_vertices,), the kept vertex that stands for each.
    """

    graph: BipartiteGraph
    whose: npt.NDArray[np.int64]
    vertices: Indices

    def expand(self, colors: Colors) -> Colors:
        """The colors of all vertices from those of the kept ones: the twins of a set get consecutive colors."""
        whose = self.whose[self.vertices]
        order = np.argsort(whose, kind="stable")
        first = np.flatnonzero(np.diff(whose[order], prepend=-1))
        size = np.diff(first, append=whose.size)
        copy = np.empty(whose.size, np.int64)
        copy[order] = np.arange(whose.size) - np.repeat(first, size)
        color = colors[whose]
        width = np.zeros(int(colors.max(initial=-1)) + 1, np.int64)
        np.maximum.at(width, color, copy + 1)
        out = np.full(self.whose.size, -1, np.int32)
        out[self.vertices] = (np.cumsum(width) - width)[color] + copy
        return out


def quotient(graph: BipartiteGraph) -> QuotientGraph:
    """The quotient graph of ``graph``. O(nnz + n log n)."""
    whose, kept = _groups(*graph.by_vertex, graph.num_nets)
    _, nets = _groups(*graph.by_net, graph.num_vertices)
    number = np.full(graph.num_vertices, -1, np.int64)
    number[kept] = np.arange(kept.size)
    start, members = np.zeros(nets.size + 1, np.uint64), np.empty(graph.nnz, np.uint32)
    count = _restrict.given(graph.nnz)(*graph.by_net, nets, number, start, members)
    small = BipartiteGraph(kept.size, nets.size, _by_net=(start, members[:count].copy()))
    return QuotientGraph(small, whose, graph.vertices)


def _groups(pointers: Pointers, indices: Indices, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The number of the group of equal rows that each row is in, and one row of each group."""
    random = np.random.default_rng(0).integers(0, 2**63, size, dtype=np.uint64)
    sums = np.zeros(pointers.size - 1, np.uint64)
    _sums.given(indices.size)(pointers, indices, random, sums)
    _, kept, group = np.unique(sums, return_index=True, return_inverse=True)
    return group, kept


@kernel
def _sums(pointers: Pointers, indices: Indices, random: Hashes, sums: Hashes) -> None:
    for row in range(sums.size):
        for e in range(pointers[row], pointers[row + 1]):
            sums[row] ^= random[indices[e]]


@kernel
def _restrict(
    pointers: Pointers,
    indices: Indices,
    nets: npt.NDArray[np.int64],
    number: npt.NDArray[np.int64],
    start: Pointers,
    members: Indices,
) -> int:
    count = 0
    for k in range(nets.size):
        for e in range(pointers[nets[k]], pointers[nets[k] + 1]):
            if number[indices[e]] >= 0:
                members[count] = number[indices[e]]
                count += 1
        start[k + 1] = count
    return count
