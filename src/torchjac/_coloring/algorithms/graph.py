"""The bipartite graph of a pattern, seen from the side that is colored.

A *vertex* is what gets a color (a column, say); a *net* is what two vertices must not share if they are to have one
color (a row). Rows that read the same inputs forbid the same things, so rows with one index set are one net: the
graph of a dense pattern has a single net, and a mesh residual of three components a third of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..._base.errors import PatternError
from ..._matrices.pattern import SparsityPattern
from ..._matrices.row_sets import IntArray
from .numba_kernel import kernel

Pointers = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.uint32]
Counts = npt.NDArray[np.int32]
Incidence = tuple[Pointers, Indices]
"""The CSR arrays of a graph: the position where each row starts, and the members of the rows."""


@dataclass(frozen=True, eq=False)
class BipartiteGraph:
    """A bipartite graph: the vertices of each net in CSR, and the nets of each vertex, computed when asked for.

    >>> from torchjac import SparsityPattern
    >>> graph = column_graph(SparsityPattern.from_coo([0, 0, 1], [0, 1, 1], (2, 2)))
    >>> graph.num_vertices, graph.num_nets, graph.largest_net
    (2, 2, 2)
    """

    num_vertices: int
    num_nets: int
    _by_net: Incidence | None = None
    _by_vertex: Incidence | None = None

    @cached_property
    def by_net(self) -> Incidence:
        """The CSR arrays (pointers, vertices) of the nets."""
        return self._by_net or transpose(*self.by_vertex, self.num_nets)

    @cached_property
    def by_vertex(self) -> Incidence:
        """The CSR arrays (pointers, nets) of the vertices."""
        return self._by_vertex or transpose(*self.by_net, self.num_vertices)

    @property
    def nnz(self) -> int:
        """The number of (vertex, net) pairs."""
        return int((self._by_net or self.by_vertex)[1].size)

    @cached_property
    def largest_net(self) -> int:
        """The number of vertices in the largest net: all must differ, so no coloring has fewer colors."""
        if self._by_net is not None:
            return int(_longest.given(self.num_nets)(self._by_net[0].view(np.int64)))
        nets = self.by_vertex[1]
        return int(_most_frequent.given(nets.size)(nets, np.zeros(self.num_nets, np.int64)))

    @cached_property
    def pairs(self) -> int:
        """The number of (net, vertex, vertex) triples: the steps of a walk over all neighbors at distance 2."""
        sizes = np.diff(self.by_net[0].view(np.int64)).astype(float)
        return int(np.dot(sizes, sizes))

    @cached_property
    def vertices(self) -> Indices:
        """The vertices that have a net, in their natural order; the others need no color."""
        pointers = self.by_vertex[0]
        if (pointers[1:] > pointers[:-1]).all():
            return np.arange(self.num_vertices, dtype=np.uint32)
        return np.flatnonzero(pointers[1:] > pointers[:-1]).astype(np.uint32)


def column_graph(pattern: SparsityPattern) -> BipartiteGraph:
    """The bipartite graph with columns as vertices and distinct rows as nets."""
    row_sets, pointers, indices = pattern.index_sets
    m, n = _fits(pattern)
    own = row_sets.size == pointers.size - 1 and bool((row_sets[1:] > row_sets[:-1]).all())  # a set for every row
    if not own:
        used = np.zeros(pointers.size - 1, bool)
        used[row_sets] = True
        if not used.all():  # a set that no row has forbids nothing
            sizes = np.diff(pointers)
            indices = indices[np.repeat(used, sizes)]
            pointers = np.concatenate([[0], np.cumsum(sizes[used])])
    by_net = incidence(pointers, indices)
    mirrored = by_net if own and m == n and is_symmetric(*by_net) else None  # saves the transpose, half of the time
    return BipartiteGraph(n, pointers.size - 1, _by_net=by_net, _by_vertex=mirrored)


def row_graph(pattern: SparsityPattern) -> BipartiteGraph:
    """The bipartite graph with rows as vertices and columns as nets."""
    return BipartiteGraph(*_fits(pattern), _by_vertex=incidence(pattern.indptr, pattern.indices))


def incidence(pointers: npt.ArrayLike, indices: npt.ArrayLike) -> Incidence:
    """The CSR arrays in the dtypes that kernels take; not copied where they have the right width."""
    pointers, indices = np.ascontiguousarray(pointers, np.int64), np.ascontiguousarray(indices)
    narrow = indices if indices.dtype == np.uint32 else indices.astype(np.int32, copy=False).view(np.uint32)
    return pointers.view(np.uint64), narrow


def transpose(pointers: Pointers, indices: Indices, size: int) -> Incidence:
    """The transpose of CSR arrays with ``size`` columns; the new indices rise within a row."""
    out = np.zeros(size + 1, np.uint64), np.empty(indices.size, np.uint32)
    place = np.int32 if indices.size < 2**31 else np.int64
    _transpose.given(indices.size)(pointers, indices, np.zeros(size, place), *out)
    return out


def is_symmetric(pointers: Pointers, indices: Indices) -> bool:
    """Whether a square CSR pattern is its own transpose; stops at the first entry without a mirror image."""
    place = np.int32 if indices.size < 2**31 else np.int64
    return _is_symmetric.given(indices.size)(pointers, indices, pointers[:-1].astype(place))


def _fits(pattern: SparsityPattern) -> tuple[int, int]:
    if max(pattern.shape) >= 2**31:
        raise PatternError(f"a pattern of shape {pattern.shape} to color", expected="fewer than 2^31 rows and columns")
    return pattern.shape


@kernel
def _transpose(pointers: Pointers, indices: Indices, place: IntArray, start: Pointers, out: Indices) -> None:
    for column in indices:
        place[column] += 1
    total = 0
    for column in range(place.size):
        total += place[column]
        place[column] = total - place[column]
        start[column + 1] = total
    for row in range(pointers.size - 1):
        for e in range(pointers[row], pointers[row + 1]):
            column = indices[e]
            out[np.uint64(place[column])] = row
            place[column] += 1


@kernel
def _longest(pointers: npt.NDArray[np.int64]) -> int:
    longest = 0
    for row in range(pointers.size - 1):
        longest = max(longest, pointers[row + 1] - pointers[row])
    return longest


@kernel
def _is_symmetric(pointers: Pointers, indices: Indices, place: IntArray) -> bool:
    """Whether each entry has a mirror image: those of the entries of column j come in the order of row j."""
    for row in range(pointers.size - 1):
        for e in range(pointers[row], pointers[row + 1]):
            column = indices[e]
            mirror = np.uint64(place[column])
            if mirror >= pointers[column + 1] or indices[mirror] != row:
                return False
            place[column] += 1
    return True


@kernel
def _most_frequent(indices: Indices, counts: npt.NDArray[np.int64]) -> int:
    most = 0
    for index in indices:
        counts[index] += 1
        most = max(most, counts[index])
    return most
