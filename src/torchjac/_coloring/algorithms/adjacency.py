"""The graph of a symmetric pattern, or of both sides of a rectangular one, for star and acyclic colorings.

Symmetric: vertices are columns, an edge is an entry off the diagonal. Bidirectional: vertices are the rows and then
the columns, an edge is an entry, and colors of rows and of columns are counted apart; ``num_rows`` tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..._base.errors import PatternError
from ..._matrices.pattern import SparsityPattern
from .graph import BipartiteGraph, Indices, Pointers, incidence, transpose
from .numba_kernel import kernel


@dataclass(frozen=True, eq=False)
class Adjacency:
    """A graph: the neighbors of each vertex in CSR, each edge in both directions; ``num_rows`` 0 for one palette."""

    start: Pointers
    neighbors: Indices
    num_rows: int = 0

    @property
    def num_vertices(self) -> int:
        """The number of vertices: of rows and columns together where the palettes are apart."""
        return self.start.size - 1

    @cached_property
    def distance1(self) -> BipartiteGraph:
        """The bipartite graph with edges as nets, for orders by degree: neighbors share a net."""
        n = self.num_vertices
        starts = self.start.view(np.int64)
        source = np.repeat(np.arange(n, dtype=np.uint32), starts[1:] - starts[:-1])
        keep = source < self.neighbors
        ends = np.stack([source[keep], self.neighbors[keep]], axis=1).ravel()
        by_net = incidence(np.arange(0, ends.size + 1, 2), ends)
        return BipartiteGraph(n, ends.size // 2, _by_net=by_net)

    @cached_property
    def distance2(self) -> BipartiteGraph:
        """The bipartite graph with neighborhoods as nets: vertices with a common neighbor share a net."""
        n = self.num_vertices
        return BipartiteGraph(n, n, _by_net=(self.start, self.neighbors), _by_vertex=(self.start, self.neighbors))


def symmetric_graph(pattern: SparsityPattern) -> Adjacency:
    """The adjacency graph of a symmetric (n, n) pattern; PatternError, naming an entry, if it is not symmetric."""
    m, n = pattern.shape
    if m != n:
        raise PatternError(
            f"a symmetric coloring of a pattern of shape {pattern.shape}",
            expected="a square pattern, such as that of a Hessian",
            instead="partition='column', 'row' or 'bidirectional'",
        )
    start, indices = incidence(pattern.indptr, pattern.indices)
    new_start, neighbors = np.zeros(n + 1, np.uint64), np.empty(indices.size, np.uint32)
    place = start[:-1].view(np.int64).copy()
    bad = _drop_diagonal.given(indices.size)(start, indices, place, new_start, neighbors)
    if bad >= 0:
        i, j = _unmirrored(pattern)
        raise PatternError(
            f"a symmetric coloring of a pattern that has the entry ({i}, {j}) but not ({j}, {i})",
            expected="with every entry its mirror image",
            instead="partition='column', 'row' or 'bidirectional', or the pattern united with its transpose",
        )
    return Adjacency(new_start, neighbors[: int(new_start[-1])])


def bipartite_adjacency(pattern: SparsityPattern) -> Adjacency:
    """The bipartite graph of an (m, n) pattern with rows 0 to m - 1 and columns m to m + n - 1 as vertices."""
    (m, n), nnz = pattern.shape, pattern.nnz
    start, indices = incidence(pattern.indptr, pattern.indices)
    column_start, rows = transpose(start, indices, n)
    return Adjacency(
        np.concatenate([start, column_start[1:] + np.uint64(nnz)]),
        np.concatenate([indices + np.uint32(m), rows]),
        num_rows=m,
    )


def _unmirrored(pattern: SparsityPattern) -> tuple[int, int]:
    n = pattern.shape[1]
    rows, columns = pattern.rows.astype(np.int64), pattern.indices.astype(np.int64)
    lonely = np.setdiff1d(rows * n + columns, columns * n + rows)
    return int(lonely[0] // n), int(lonely[0] % n)


@kernel
def _drop_diagonal(
    start: Pointers, indices: Indices, place: npt.NDArray[np.int64], new_start: Pointers, neighbors: Indices
) -> int:
    """Copy all but the diagonal; return the first entry without a mirror image, -1 for a symmetric pattern.

    Rows come in order, so the mirror images of what is in column j come in the order of row j.
    """
    count = 0
    for row in range(start.size - 1):
        for e in range(start[row], start[row + 1]):
            column = indices[e]
            mirror = place[column]
            if mirror >= start[column + 1] or indices[mirror] != row:
                return int(e)
            place[column] = mirror + 1
            if column != row:
                neighbors[count] = column
                count += 1
        new_start[row + 1] = count
    return -1
