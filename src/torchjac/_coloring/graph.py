"""The bipartite graph of a pattern, seen from the side that is colored.

A *vertex* is what gets a color (a column, say); a *net* is what two vertices must not share if they are to have one
color (a row). Rows that read the same inputs forbid the same things, so rows with one index set are one net: the
graph of a dense pattern has a single net, and a mesh residual of three components a third of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from .._pattern import SparsityPattern
from .kernel import kernel

Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class BipartiteGraph:
    """Nets of vertices in CSR, and the transpose on demand.

    >>> from torchjac import SparsityPattern
    >>> graph = column_graph(SparsityPattern.from_coo([0, 0, 1], [0, 1, 1], (2, 2)))
    >>> graph.num_vertices, graph.num_nets, graph.largest_net
    (2, 2, 2)
    """

    num_vertices: int
    num_nets: int
    _by_net: tuple[Ints, Ints] | None = None
    _by_vertex: tuple[Ints, Ints] | None = None

    @cached_property
    def by_net(self) -> tuple[Ints, Ints]:
        """(indptr, vertices) of each net."""
        return self._by_net or transpose(*self.by_vertex, self.num_nets)

    @cached_property
    def by_vertex(self) -> tuple[Ints, Ints]:
        """(indptr, nets) of each vertex."""
        return self._by_vertex or transpose(*self.by_net, self.num_vertices)

    @cached_property
    def largest_net(self) -> int:
        """The most vertices in a net: that many must differ, so no coloring has fewer colors."""
        if self._by_net is not None:
            return int(np.diff(self._by_net[0]).max(initial=0))
        return int(np.bincount(self.by_vertex[1], minlength=1).max())

    @cached_property
    def degrees(self) -> Ints:
        """The number of nets of each vertex."""
        if self._by_vertex is not None:
            return np.diff(self._by_vertex[0])
        return np.bincount(self.by_net[1], minlength=self.num_vertices)

    @cached_property
    def vertices(self) -> Ints:
        """The vertices that have a net, in their natural order; the others need no color."""
        return np.flatnonzero(self.degrees).astype(np.int32)


def column_graph(pattern: SparsityPattern) -> BipartiteGraph:
    """Columns are vertices, distinct rows are nets."""
    row_sets, ptr, indices = pattern.index_sets
    used = np.zeros(ptr.size - 1, bool)
    used[row_sets] = True
    if not used.all():  # a set that no row has forbids nothing
        sizes = np.diff(ptr)
        indices = indices[np.repeat(used, sizes)]
        ptr = np.concatenate([[0], np.cumsum(sizes[used])])
    return BipartiteGraph(pattern.shape[1], ptr.size - 1, _by_net=(ptr, indices))


def row_graph(pattern: SparsityPattern) -> BipartiteGraph:
    """Rows are vertices, columns are nets."""
    return BipartiteGraph(pattern.shape[0], pattern.shape[1], _by_vertex=(pattern.indptr, pattern.indices))


def transpose(ptr: Ints, indices: Ints, size: int) -> tuple[Ints, Ints]:
    """The transpose of CSR arrays with ``size`` columns; the new indices are sorted."""
    counts = np.bincount(indices, minlength=size)
    out = np.zeros(size + 1, np.int64)
    np.cumsum(counts, out=out[1:])
    return out, _scatter(ptr, indices, out[:-1].copy(), np.empty(indices.size, np.int32))


@kernel
def _scatter(ptr: Ints, indices: Ints, place: Ints, out: Ints) -> Ints:
    for row in range(ptr.size - 1):
        for e in range(ptr[row], ptr[row + 1]):
            column = indices[e]
            out[place[column]] = row
            place[column] += 1
    return out
