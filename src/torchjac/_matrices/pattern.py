"""SparsityPattern: which entries of a matrix can be nonzero.

Many rows of a Jacobian share one index set (every output of a dense layer, every component of a mesh node), so a
pattern keeps the *distinct* sets once, in CSR, and for every row the number of its set. A dense m x n pattern is one
set of n indices and m equal numbers. The plain CSR arrays are made when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .._base.errors import PatternError
from .._base.memory_limit import require
from .._base.words import Scope
from . import drawing
from .notes import Answers, Cost, Note, Step
from .row_sets import IntArray, block_counts, index_dtype, risen, transposed_sets


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
        self.provenance: Answers | None = None
        self.on_device: dict[torch.device, Any] = {}  # the index tensors that _indices makes of this pattern

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
        keys = risen(rows * shape[1] + columns)
        counts = np.bincount(keys // max(shape[1], 1), minlength=shape[0])
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return cls.from_csr(indptr, keys % max(shape[1], 1), shape)

    @classmethod
    def from_scipy(cls, matrix: Any) -> SparsityPattern:
        """The stored entries of a SciPy sparse matrix; explicit zeros are entries, duplicates count once."""
        coo = matrix.tocoo()
        return cls.from_coo(coo.row, coo.col, coo.shape)

    @classmethod
    def from_dense(cls, matrix: Any) -> SparsityPattern:
        """A pattern from the nonzero entries of a dense (m, n) tensor or array."""
        dense = (torch.as_tensor(matrix).detach() != 0).cpu().numpy()
        if dense.ndim != 2:
            raise PatternError(f"a dense pattern of {dense.ndim} dimensions", expected="2 dimensions, (m, n)")
        rows, columns = dense.nonzero()
        return cls.from_coo(rows, columns, dense.shape)

    # ---- reading it

    @property
    def index_sets(self) -> tuple[IntArray, IntArray, IntArray]:
        """(row_sets, indptr, indices): the number of each row's set, and the sets in CSR; some may belong to no row."""
        return self._row_sets, self._set_indptr, self._set_indices

    @cached_property
    def indptr(self) -> npt.NDArray[np.int64]:
        """Where each row starts in ``indices``: (m + 1,), NumPy."""
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
            flipped = self.to_scipy().tocsc()
            parts = np.arange(n), flipped.indptr.astype(np.int64), flipped.indices
        return SparsityPattern((n, m), *parts, scope=self.scope, notes=self.notes)

    def _sets_matrix(self) -> Any:
        """The distinct rows as a SciPy ``csr_array`` of ones, (sets, n)."""
        from scipy.sparse import csr_array

        shape = (self._set_indptr.size - 1, self.shape[1])
        ones = np.ones(self._set_indices.size, np.int64)
        return csr_array((ones, self._set_indices, self._set_indptr.astype(self._set_indices.dtype)), shape=shape)

    def to_scipy(self) -> Any:
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
        """The entries of either; local if one is, with the notes of both."""
        if self.shape != other.shape:
            raise PatternError(f"patterns of shape {self.shape} and {other.shape}", expected="two of the same shape")
        both = SparsityPattern.from_scipy(self.to_scipy() + other.to_scipy())
        both.scope = "local" if "local" in (self.scope, other.scope) else "global"
        both.notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        both.provenance = other.provenance or self.provenance
        return both

    def gram(self, weights: SparsityPattern | None = None) -> SparsityPattern:
        """Where J^T J, or J^T W J with ``weights`` W of shape (m, m), can have entries: (n, n), of a J like this.

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
        of = (self,) if weights is None else (self, weights)
        product.scope = "local" if any(p.scope == "local" for p in of) else "global"
        product.notes = tuple(dict.fromkeys(note for p in of for note in p.notes))
        return product

    def __and__(self, other: SparsityPattern) -> SparsityPattern:
        """The entries of this one that ``other`` has too; scope and notes stay."""
        if self.shape != other.shape:
            raise PatternError(f"patterns of shape {self.shape} and {other.shape}", expected="two of the same shape")
        if self.nnz == self.shape[0] * self.shape[1]:
            inside = other.rows, other.indices
        else:
            kept = self.has(other)
            inside = other.rows[kept], other.indices[kept]
        both = SparsityPattern.from_coo(*inside, self.shape)
        both.scope, both.notes, both.provenance = self.scope, self.notes, self.provenance
        return both

    def has(self, other: SparsityPattern) -> npt.NDArray[np.bool_]:
        """For each entry of ``other``, row by row, whether it is an entry of this one: (other.nnz,)."""
        mine, theirs = self._keys, other._keys
        at = np.minimum(np.searchsorted(mine, theirs), max(mine.size - 1, 0))
        found: npt.NDArray[np.bool_] = mine[at] == theirs if mine.size else np.zeros(theirs.size, bool)
        return found

    @property
    def _keys(self) -> npt.NDArray[np.int64]:
        """The place of each entry in the ravelled matrix, rising."""
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
        return self._answers().why(i, j)

    def costs(self) -> list[Cost]:
        """Which lines made the pattern dense: each line of f with the entries it added, most first; f runs once more.

        >>> import torch, torchjac as tj
        >>> pattern = tj.jacobian_sparsity(lambda x: (x * x).cumsum(0) + x.sum(), torch.rand(100))
        >>> [(cost.op, cost.nonzeros) for cost in pattern.costs()]
        [('cumsum', 4950), ('add', 4950)]
        """
        return self._answers().costs()

    def _answers(self) -> Answers:
        if self.provenance is None:
            raise PatternError(
                "this pattern was not traced from a function",
                expected="a pattern from jacobian_sparsity, or plan.pattern",
                why="only running the function again tells which ops it is made of",
            )
        return self.provenance

    # ---- looking at it

    def counts(self, height: int, width: int) -> npt.NDArray[np.int64]:
        """How many entries are in each of height x width equal blocks; O(distinct rows), also where J is dense.

        >>> import torch, torchjac as tj
        >>> tj.jacobian_sparsity(lambda x: x.cumsum(0), torch.rand(4)).counts(2, 2).tolist()
        [[3, 0], [4, 3]]
        """
        return block_counts(self._sets_matrix(), self._row_sets, height, width)

    def plot(self, ax: Any = None, *, row_blocks: Sequence[int] = (), column_blocks: Sequence[int] = ()) -> Any:
        """Draw it, by matplotlib: a pixel is dark where many of its places are entries, and white only without one.

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
        image = drawing.relative_density(self.shape, self.counts(*drawing.image_size(self.shape)))
        title = f"{m:,} x {n:,}, {self.nnz:,} entries"
        return drawing.spy(drawing.axes(ax), self.shape, image, title, row_blocks, column_blocks)

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{escape(str(note))}</li>" for note in self.notes)
        return f"<div><code>{escape(repr(self))}</code><br>{self._thumbnail()}<ul>{notes}</ul></div>"

    def _thumbnail(self) -> str:
        if 0 in self.shape:
            return ""
        image = drawing.relative_density(self.shape, self.counts(*drawing.image_size(self.shape, 240)))
        style = "width:240px;height:240px;image-rendering:pixelated;border:1px solid #999"
        return f'<img alt="the pattern" style="{style}" src="{drawing.png_uri(image)}">'

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
        return "\n".join([repr(self), *picture(self), *(f"  note: {note}" for note in self.notes)])


def picture(pattern: SparsityPattern, height: int = 16, width: int = 48) -> list[str]:
    """A text view of a pattern, one character a block of entries: from ' ' (none) over '·:+' to '#' (most)."""
    m, n = pattern.shape
    if m == 0 or n == 0:
        return []
    height, width = min(m, height), min(n, width)
    counts = pattern.counts(height, width)
    per_cell = (m / height) * (n / width)
    shades = np.array(list(" ·:+#"))
    level = np.ceil(4 * np.sqrt(np.minimum(counts / per_cell, 1))).astype(int)
    return [
        "  ┌" + "─" * width + "┐",
        *("  │" + "".join(row) + "│" for row in shades[level]),
        "  └" + "─" * width + "┘",
    ]


def as_pattern(pattern: Any) -> SparsityPattern:
    """A SparsityPattern from one of ours, a SciPy sparse matrix, a torch sparse tensor, or a dense matrix."""
    if isinstance(pattern, SparsityPattern):
        return pattern
    if isinstance(pattern, torch.Tensor) and pattern.layout is not torch.strided:
        coo = pattern.detach().cpu().to_sparse_coo()
        if coo.dim() != 2 or coo.sparse_dim() != 2:
            raise PatternError(
                f"a sparse tensor of shape {tuple(pattern.shape)}", expected="two sparse dimensions, (m, n)"
            )
        rows, columns = coo._indices()
        return SparsityPattern.from_coo(rows.numpy(), columns.numpy(), (coo.shape[0], coo.shape[1]))
    if hasattr(pattern, "tocoo"):
        return SparsityPattern.from_scipy(pattern)
    if isinstance(pattern, (torch.Tensor, np.ndarray, list, tuple)):
        return SparsityPattern.from_dense(torch.as_tensor(pattern))
    raise PatternError(
        f"a pattern of type {type(pattern).__name__}",
        expected="a SparsityPattern, a SciPy sparse matrix, a torch sparse tensor or a dense (m, n) array",
        instead="torchjac.SparsityPattern.from_coo(rows, columns, (m, n))",
    )


def wanted_entries(entries: Any, shape: tuple[int, int]) -> SparsityPattern:
    """The pattern that ``entries`` stands for in a matrix of ``shape``: "diagonal", or a pattern of any kind."""
    if isinstance(entries, str):
        places = np.arange(min(shape))
        return SparsityPattern.from_coo(places, places, shape)
    pattern = as_pattern(entries)
    if pattern.shape != shape:
        raise PatternError(
            f"entries of shape {pattern.shape}",
            expected=f"shape {shape}: {shape[0]} ravelled outputs by {shape[1]} ravelled inputs",
            instead="SparsityPattern.from_coo(rows, columns, shape), or entries='diagonal'",
        )
    return pattern


def _in_range(name: str, indices: IntArray, shape: tuple[int, int]) -> None:
    size = shape[0] if name == "row" else shape[1]
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        wrong = indices.min() if indices.min() < 0 else indices.max()
        raise PatternError(
            f"{name} index {wrong} in a pattern of {shape[0]} x {shape[1]}",
            expected=f"{name} indices from 0 to {size - 1}",
        )
