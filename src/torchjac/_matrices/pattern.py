"""SparsityPattern: which entries of a matrix can be nonzero.

Many rows of a Jacobian share one index set (every output of a dense layer, every component of a mesh node), so a
pattern keeps the *distinct* sets once, in CSR, and for every row the number of its set. A dense m x n pattern is one
set of n indices and m equal numbers. The plain CSR arrays are made when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from .._base.errors import PatternError
from .._base.memory_limit import require
from .._base.words import Scope
from . import drawing
from .notes import Cost, Note, Provenance, Step
from .row_sets import IntArray, block_counts, index_dtype, sorted_distinct, transposed_sets

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from scipy.sparse import csr_array


class CooMatrix(Protocol):
    """The parts of a SciPy matrix in coordinate format: the row and the column of each entry, and the shape."""

    @property
    def row(self) -> npt.ArrayLike: ...
    @property
    def col(self) -> npt.ArrayLike: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


@runtime_checkable
class ScipyMatrix(Protocol):
    """Any sparse matrix or array of SciPy."""

    def tocoo(self) -> CooMatrix: ...


class SparsityPattern:
    """The places of an (m, n) matrix that can be nonzero, row by row.

    >>> import torch, torchjac as tj
    >>> pattern = tj.jacobian_sparsity(lambda x: x[1:] * x[:-1], torch.rand(4))
    >>> pattern
    SparsityPattern(3 x 4, 6 entries, 50% dense, global)
    >>> pattern.to_dense().int().tolist()
    [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]

    An entry is *structural*: it is there when the input takes part in the computation of the output, also where its
    value happens to be zero (``x * 0``), and it is not there when the output never reads the input.

    Attributes
    ----------
    shape: (m, n), the number of ravelled outputs and inputs.
    scope: ``"global"`` when the pattern holds for every input, ``"local"`` when f took a decision by value.
    notes: what made the pattern larger than need be, or local; each names an op and a line.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        row_sets: IntArray,
        set_indptr: IntArray,
        set_indices: IntArray,
        *,
        scope: Scope = "global",
        notes: Iterable[Note] = (),
    ) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        self._row_sets = row_sets
        self._set_indptr = set_indptr
        self._set_indices = set_indices
        self.scope: Scope = scope
        self.notes = tuple(notes)
        self.provenance: Provenance | None = None
        self.delicate: frozenset[str] = frozenset()  # ops in f that not every way of differentiating takes right
        self.on_device: dict[torch.device, object] = {}  # the index tensors that ``indices_of`` makes and keeps here

    def __getstate__(self) -> dict[str, object]:
        """The arrays, scope and notes; where entries come from can be asked of the function alone, which stays here."""
        return {**self.__dict__, "provenance": None, "on_device": {}}

    # ---- making one

    @classmethod
    def from_csr(
        cls, indptr: npt.ArrayLike, indices: npt.ArrayLike, shape: tuple[int, int], *, scope: Scope = "global"
    ) -> SparsityPattern:
        """A pattern from CSR arrays: ``indptr`` (m + 1,), ``indices`` (nnz,) sorted and distinct within each row."""
        indptr, indices = np.asarray(indptr, np.int64), np.asarray(indices)
        if (
            indptr.shape != (shape[0] + 1,)
            or indptr[0] != 0
            or indptr[-1] != indices.size
            or (np.diff(indptr) < 0).any()
        ):
            raise PatternError(
                f"indptr of shape {indptr.shape} and {indices.size} indices do not describe {shape[0]} rows",
                expected=f"shape ({shape[0] + 1},), starting at 0, never falling, ending at the number of indices",
            )
        _in_range("column", indices, shape)
        falls = np.flatnonzero(np.diff(indices) <= 0) + 1
        if not np.isin(falls, indptr).all():  # a row may start anywhere, and then rises
            raise PatternError(
                "the indices of a row do not rise",
                expected="sorted and distinct column indices within each row",
                instead="SparsityPattern.from_coo(rows, columns, shape), which takes them in any order",
            )
        return cls(shape, np.arange(shape[0]), indptr, indices.astype(index_dtype(shape[1]), copy=False), scope=scope)

    @classmethod
    def full(cls, shape: tuple[int, int]) -> SparsityPattern:
        """The pattern with every entry: n indices are kept, not m x n."""
        m, n = shape
        pattern = cls(shape, np.zeros(m, np.int64), np.array([0, n]), np.arange(n, dtype=index_dtype(n)))
        pattern.nnz = m * n
        return pattern

    @classmethod
    def from_coo(cls, rows: npt.ArrayLike, columns: npt.ArrayLike, shape: tuple[int, int]) -> SparsityPattern:
        """A pattern from the (row, column) pairs of its entries, in any order; duplicates count once.

        >>> import torchjac as tj
        >>> tj.SparsityPattern.from_coo([0, 1, 1], [2, 0, 0], (2, 3)).nnz
        2
        """
        rows, columns = np.asarray(rows, np.int64).ravel(), np.asarray(columns, np.int64).ravel()
        if rows.shape != columns.shape:
            raise PatternError(f"{rows.size} row and {columns.size} column indices", expected="as many of each")
        _in_range("row", rows, shape)
        _in_range("column", columns, shape)
        keys = sorted_distinct(rows * shape[1] + columns)
        counts = np.bincount(keys // max(shape[1], 1), minlength=shape[0])
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return cls.from_csr(indptr, keys % max(shape[1], 1), shape)

    @classmethod
    def from_scipy(cls, matrix: ScipyMatrix) -> SparsityPattern:
        """A pattern from the stored entries of a SciPy matrix; explicit zeros are entries, duplicates count once."""
        coo = matrix.tocoo()
        return cls.from_coo(coo.row, coo.col, (coo.shape[0], coo.shape[1]))

    @classmethod
    def from_dense(cls, matrix: torch.Tensor | npt.ArrayLike) -> SparsityPattern:
        """A pattern from the nonzero entries of a dense (m, n) tensor or array."""
        dense = (torch.as_tensor(matrix).detach() != 0).cpu().numpy()
        if dense.ndim != 2:
            raise PatternError(f"a dense pattern of {dense.ndim} dimensions", expected="2 dimensions, (m, n)")
        rows, columns = dense.nonzero()
        return cls.from_coo(rows, columns, dense.shape)

    # ---- reading it

    @property
    def index_sets(self) -> tuple[IntArray, IntArray, IntArray]:
        """The number of each row's set, and the sets in CSR: (row_sets, indptr, indices); sets may be unused."""
        return self._row_sets, self._set_indptr, self._set_indices

    @cached_property
    def indptr(self) -> npt.NDArray[np.int64]:
        """The position in ``indices`` where each row starts: (m + 1,), NumPy."""
        out = np.zeros(self.shape[0] + 1, np.int64)
        np.cumsum(np.diff(self._set_indptr)[self._row_sets], out=out[1:])
        return out

    @cached_property
    def indices(self) -> IntArray:
        """The columns of the entries, row by row and rising within a row: (nnz,), NumPy, int32 where n allows."""
        starts = self._set_indptr[self._row_sets]
        in_order = np.array_equal(self.indptr, self._set_indptr)
        if in_order and np.array_equal(starts, self._set_indptr[:-1]):
            return self._set_indices
        self._ask(3 * 8)
        shift = np.repeat(starts - self.indptr[:-1], np.diff(self.indptr))
        shift += np.arange(self.nnz)
        return self._set_indices[shift]

    def _ask(self, each: int) -> None:
        """Raise MemoryLimitError where there is no room for ``each`` bytes an entry."""
        what = f"the {self.nnz:,} entries of a {self.shape[0]} x {self.shape[1]} pattern, one by one,"
        require(self.nnz * each, what, instead="layout=torch.strided, a JacobianOperator, or entries= of those wanted")

    @cached_property
    def rows(self) -> IntArray:
        """The rows of the entries, in the same order as ``indices``: (nnz,), NumPy."""
        self._ask(8)
        return np.repeat(np.arange(self.shape[0], dtype=index_dtype(self.shape[0])), np.diff(self.indptr))

    @cached_property
    def nnz(self) -> int:
        """The number of entries."""
        return int(np.diff(self._set_indptr)[self._row_sets].sum())

    @cached_property
    def crow_indices(self) -> torch.Tensor:
        """Row pointers as ``torch.sparse_csr`` wants them: (m + 1,), int64."""
        return torch.from_numpy(self.indptr)

    @cached_property
    def col_indices(self) -> torch.Tensor:
        """Column indices as ``torch.sparse_csr`` wants them: (nnz,), int64."""
        indices = torch.empty(
            self.nnz, dtype=torch.int64
        )  # from_numpy could have stride 0, if empty: torch 2.11 objects
        indices.numpy()[:] = self.indices
        return indices

    @cached_property
    def T(self) -> SparsityPattern:
        """The transposed pattern, (n, m). O(nnz), and no more memory than the distinct columns need."""
        m, n = self.shape
        if 4 * (self._set_indptr.size - 1) < m:
            parts = transposed_sets(self._sets_matrix(), self._row_sets)
        else:
            columns = self.to_scipy().tocsc()
            parts = np.arange(n), columns.indptr.astype(np.int64), columns.indices
        flipped = SparsityPattern((n, m), *parts, scope=self.scope, notes=self.notes)
        flipped.delicate = self.delicate
        return flipped

    def _sets_matrix(self) -> csr_array:
        """The distinct rows as a SciPy ``csr_array`` of ones, (sets, n)."""
        from scipy.sparse import csr_array

        shape = (self._set_indptr.size - 1, self.shape[1])
        ones = np.ones(self._set_indices.size, np.int64)
        return csr_array((ones, self._set_indices, self._set_indptr.astype(self._set_indices.dtype)), shape=shape)

    def to_scipy(self) -> csr_array:
        """The pattern as a SciPy ``csr_array`` of booleans, all true."""
        from scipy.sparse import csr_array

        dtype = index_dtype(max(self.nnz, *self.shape))
        return csr_array(
            (np.ones(self.nnz, bool), self.indices.astype(dtype, copy=False), self.indptr.astype(dtype)),
            shape=self.shape,
        )

    def to_dense(self) -> torch.Tensor:
        """The pattern as a dense (m, n) ``torch.bool`` tensor; m x n bytes."""
        m, n = self.shape
        require(m * n, f"a dense pattern of {m} x {n} places", instead="pattern.to_scipy()")
        dense = torch.zeros(self.shape, dtype=torch.bool)
        dense[torch.from_numpy(self.rows.astype(np.int64)), self.col_indices] = True
        return dense

    def __contains__(self, entry: tuple[int, int]) -> bool:
        i, j = entry
        row = self.indices[self.indptr[i] : self.indptr[i + 1]]
        at = int(np.searchsorted(row, j))
        return at < row.size and int(row[at]) == j

    def __or__(self, other: SparsityPattern) -> SparsityPattern:
        """The union of two patterns; it is local if one of them is, and has the notes of both."""
        if self.shape != other.shape:
            raise PatternError(f"patterns of shape {self.shape} and {other.shape}", expected="two of the same shape")
        both = SparsityPattern.from_scipy(self.to_scipy() + other.to_scipy())
        both.provenance = other.provenance or self.provenance
        return both.inherit(self, other)

    def gram(self, weights: SparsityPattern | None = None) -> SparsityPattern:
        """The pattern of J^T J, (n, n), for a J with this one; of J^T W J for ``weights`` W, (m, m).

        >>> import torch, torchjac as tj
        >>> tj.jacobian_sparsity(lambda x: x[1:] * x[:-1], torch.rand(5)).gram()
        SparsityPattern(5 x 5, 13 entries, 52% dense, global)
        """
        if weights is not None and weights.shape != (self.shape[0],) * 2:
            raise PatternError(
                f"weights of shape {weights.shape} for a pattern of {self.shape[0]} rows",
                expected=f"shape {(self.shape[0],) * 2}",
            )
        mine = self.to_scipy()
        inner = mine if weights is None else weights.to_scipy() @ mine
        product = SparsityPattern.from_scipy(mine.T @ inner)
        return product.inherit(self) if weights is None else product.inherit(self, weights)

    def inherit(self, *patterns: SparsityPattern) -> SparsityPattern:
        """Take the notes of the ``patterns`` that this one is made of; it is local if one of them is."""
        self.scope = "local" if any(p.scope == "local" for p in patterns) else "global"
        self.notes = tuple(dict.fromkeys(note for p in patterns for note in p.notes))
        self.delicate = frozenset().union(*(p.delicate for p in patterns))
        return self

    def __and__(self, other: SparsityPattern) -> SparsityPattern:
        """The entries that both patterns have, with the scope and the notes of the first."""
        if self.shape != other.shape:
            raise PatternError(f"patterns of shape {self.shape} and {other.shape}", expected="two of the same shape")
        if self.nnz == self.shape[0] * self.shape[1]:
            inside = other.rows, other.indices
        else:
            kept = self.has(other)
            inside = other.rows[kept], other.indices[kept]
        both = SparsityPattern.from_coo(*inside, self.shape)
        both.scope, both.notes, both.provenance = self.scope, self.notes, self.provenance
        both.delicate = self.delicate
        return both

    def has(self, other: SparsityPattern) -> npt.NDArray[np.bool_]:
        """A mask of the entries of ``other`` that this pattern has too, row by row: (other.nnz,)."""
        mine, theirs = self._keys, other._keys
        at = np.minimum(np.searchsorted(mine, theirs), max(mine.size - 1, 0))
        found: npt.NDArray[np.bool_] = mine[at] == theirs if mine.size else np.zeros(theirs.size, bool)
        return found

    @property
    def _keys(self) -> npt.NDArray[np.int64]:
        """The index of each entry in the ravelled matrix, in rising order."""
        keys: npt.NDArray[np.int64] = self.rows.astype(np.int64) * self.shape[1] + self.indices
        return keys

    # ---- asking where it comes from

    def why(self, i: int, j: int) -> list[Step]:
        """The chain of ops from input j to output i, with the lines that called them; f runs once more.

        >>> import torch, torchjac as tj
        >>> pattern = tj.jacobian_sparsity(lambda x: x.sin().cumsum(0), torch.rand(3))
        >>> [step.op for step in pattern.why(2, 0)]
        ['mul', 'cumsum']

        ``sin`` appears as ``mul``: its derivative multiplies by a cosine. Raises PatternError when there is no entry.
        """
        m, n = self.shape
        if not (0 <= i < m and 0 <= j < n) or (i, j) not in self:
            raise PatternError(f"({i}, {j}) is not an entry of this {m} x {n} pattern", expected="a stored entry")
        return self._known_provenance().why(i, j)

    def costs(self) -> list[Cost]:
        """The entries that each line of f added, the costliest line first; f runs once more.

        >>> import torch, torchjac as tj
        >>> pattern = tj.jacobian_sparsity(lambda x: (x * x).cumsum(0) + x.sum(), torch.rand(100))
        >>> [(cost.op, cost.nonzeros) for cost in pattern.costs()]
        [('cumsum', 4950), ('add', 4950)]
        """
        return self._known_provenance().costs()

    def _known_provenance(self) -> Provenance:
        if self.provenance is None:
            raise PatternError(
                "this pattern was not traced from a function",
                expected="a pattern from jacobian_sparsity, or plan.pattern",
                why="only running the function again tells which ops it is made of",
            )
        return self.provenance

    # ---- looking at it

    def counts(self, height: int, width: int) -> npt.NDArray[np.int64]:
        """The number of entries in each of height x width equal blocks; O(distinct rows), also where J is dense.

        >>> import torch, torchjac as tj
        >>> tj.jacobian_sparsity(lambda x: x.cumsum(0), torch.rand(4)).counts(2, 2).tolist()
        [[3, 0], [4, 3]]
        """
        return block_counts(self._sets_matrix(), self._row_sets, height, width)

    def plot(
        self, ax: Axes | None = None, *, row_blocks: Sequence[int] = (), column_blocks: Sequence[int] = ()
    ) -> Axes:
        """Draw the pattern with matplotlib: the more entries a pixel has, the darker; white is only one without any.

        >>> import torch, torchjac as tj
        >>> ax = tj.jacobian_sparsity(lambda x: x.cumsum(0), torch.rand(4)).plot(row_blocks=[2])
        >>> ax.get_title()
        '4 x 4, 10 entries'

        Parameters
        ----------
        ax: the axes to draw on; those of a new figure without it. They are returned.
        row_blocks, column_blocks: where to draw a line: before these rows and columns.

        Raises
        ------
        OptionError: matplotlib is not installed.
        """
        m, n = self.shape
        image = drawing.density_image(self)
        title = f"{m:,} x {n:,}, {self.nnz:,} entries"
        return drawing.spy(drawing.axes(ax), self.shape, image, title, row_blocks, column_blocks)

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(str(note))}</li>" for note in self.notes)
        return f"<div><code>{escape(repr(self))}</code><br>{self._thumbnail()}<ul>{notes}</ul></div>"

    def _thumbnail(self) -> str:
        return drawing.thumbnail(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SparsityPattern):
            return NotImplemented
        return (
            self.shape == other.shape
            and np.array_equal(self.indptr, other.indptr)
            and np.array_equal(self.indices, other.indices)
        )

    __hash__ = None  # type: ignore[assignment]  # equal by value, and as large as a matrix: not a dictionary key

    def __repr__(self) -> str:
        m, n = self.shape
        share = f"{100 * self.nnz / (m * n):.3g}% dense" if m * n else "empty"
        return f"SparsityPattern({m} x {n}, {self.nnz:,} entries, {share}, {self.scope})"

    def __str__(self) -> str:
        return "\n".join([repr(self), *drawing.picture(self), *(f"  note: {note}" for note in self.notes)])


def _in_range(name: str, indices: IntArray, shape: tuple[int, int]) -> None:
    size = shape[0] if name == "row" else shape[1]
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        wrong = indices.min() if indices.min() < 0 else indices.max()
        raise PatternError(
            f"{name} index {wrong} in a pattern of {shape[0]} x {shape[1]}",
            expected=f"{name} indices from 0 to {size - 1}",
        )
