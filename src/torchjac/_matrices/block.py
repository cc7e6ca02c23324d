"""BlockMatrix: a sparse matrix of dense blocks of one size, multiplied block by block.

A block is stored when any of its entries is; what is missing in it is a zero. With (2, 9) blocks there is one column
index for 18 numbers. Everything is as in ``_matrix``: values are an ordinary tensor, (blocks, p, q), which carries the
graph; products gather blocks, multiply them in one batch, and add them up in places that are known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from .._base.errors import InputError, OptionError, PatternError
from .indices import TORCH_LAYOUTS, Indices, indices_of, silence_beta
from .pattern import SparsityPattern
from .row_sets import IntArray
from .sparse import SparseMatrix

BlockSize = tuple[int, int]


class BlockMatrix:
    """An (m, n) matrix of stored (p, q) blocks; what ``plan.matrix(*args)`` returns for a block layout.

    >>> import torch, torchjac as tj
    >>> def f(x):  # (3, 2) -> (3, 2): each point on its own
    ...     return x.cos() * x.sum(1, keepdim=True)
    >>> plan = tj.plan_jacobian(f, torch.rand(3, 2), layout=torch.sparse_bsr, blocksize=(2, 2))
    >>> J = plan.matrix(torch.rand(3, 2))
    >>> J
    BlockMatrix(6 x 6, 3 blocks of 2 x 2, torch.float32 on cpu)
    >>> (J @ torch.ones(6)).shape, J.gram().diagonal_blocks().shape
    (torch.Size([6]), torch.Size([3, 2, 2]))

    Every result follows grad mode, to any order.

    Parameters
    ----------
    pattern: where the blocks are, (m / p, n / q).
    values: the blocks, (blocks, p, q), in the order of the pattern.
    """

    def __init__(self, pattern: SparsityPattern, values: torch.Tensor) -> None:
        if values.dim() != 3 or values.shape[0] != pattern.nnz:
            raise InputError(
                f"values of shape {tuple(values.shape)} for a pattern of {pattern.nnz} blocks",
                expected=f"shape ({pattern.nnz}, p, q): one p x q matrix a block, row by row",
            )
        self._at, self.values = indices_of(pattern, values.device), values

    @classmethod
    def from_matrix(cls, matrix: SparseMatrix, blocksize: BlockSize) -> BlockMatrix:
        """The blocks of ``matrix`` that hold an entry."""
        blocks = Blocks(matrix.pattern, blocksize)
        return cls(blocks.pattern, blocks.fill(matrix.device)(matrix.values))

    def with_values(self, values: torch.Tensor) -> BlockMatrix:
        """Other blocks, (blocks, p, q), in the same places."""
        return _blocks(self._at, values)

    @property
    def pattern(self) -> SparsityPattern:
        """Where the blocks are, (m / p, n / q)."""
        return self._at.pattern

    @property
    def blocksize(self) -> BlockSize:
        """(p, q)."""
        return self.values.shape[1], self.values.shape[2]

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self._at.shape[0] * self.values.shape[1], self._at.shape[1] * self.values.shape[2]

    @property
    def nnz(self) -> int:
        """The number of stored numbers, zeros in blocks included."""
        return self.values.numel()

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Of the values."""
        return self.values.device

    # ---- products

    def __matmul__(self, other: Any) -> Any:
        """``J.matmul(other)``."""
        return self.matmul(other) if isinstance(other, (torch.Tensor, BlockMatrix)) else NotImplemented

    def matmul(self, other: Any) -> Any:
        """``J @ other``, for a vector (n,), a matrix (n, k), or an (n, k) BlockMatrix with blocks of q rows."""
        if isinstance(other, BlockMatrix):
            return self._times(other)
        if other.dim() not in (1, 2) or other.shape[0] != self.shape[1]:
            raise InputError(
                f"a {self.shape[0]} x {self.shape[1]} matrix times a tensor of shape {tuple(other.shape)}",
                expected=f"shape ({self.shape[1]},) or ({self.shape[1]}, k)",
            )
        width = other.shape[1] if other.dim() == 2 else 1
        read = other.reshape(self._at.shape[1], self.blocksize[1], width).index_select(0, self._at.columns)
        out = self._at.row_totals(torch.bmm(self.values, read))
        return out.reshape(self.shape[0], *other.shape[1:])

    def __rmatmul__(self, other: Any) -> Any:
        """A vector (m,) or a matrix (k, m) times this one."""
        if not isinstance(other, torch.Tensor):
            return NotImplemented
        if other.dim() not in (1, 2) or other.shape[-1] != self.shape[0]:
            raise InputError(
                f"a tensor of shape {tuple(other.shape)} times a {self.shape[0]} x {self.shape[1]} matrix",
                expected=f"shape ({self.shape[0]},) or (k, {self.shape[0]})",
            )
        return self.T.matmul(other) if other.dim() == 1 else self.T.matmul(other.mT).mT

    def _times(self, other: BlockMatrix) -> BlockMatrix:
        if self.shape[1] != other.shape[0] or self.blocksize[1] != other.blocksize[0]:
            raise InputError(
                f"{self} times {other}",
                expected=f"{self.shape[1]} rows in the second, in blocks of {self.blocksize[1]} rows",
            )
        pairs = self._at.times(other._at)
        left, right = self.values.index_select(0, pairs.left), other.values.index_select(0, pairs.right)
        return _blocks(pairs.indices, pairs.total(torch.bmm(left, right)))

    def gram(self) -> BlockMatrix:
        """J^T J, the Gauss-Newton matrix, in (q, q) blocks; where they are is found once for a pattern."""
        pairs = self._at.gram
        left, right = self.values.index_select(0, pairs.left), self.values.index_select(0, pairs.right)
        above = pairs.total(torch.bmm(left.mT, right))
        assert pairs.spread is not None  # half of it is computed
        values = above.index_select(0, pairs.spread)
        below = (pairs.indices.rows > pairs.indices.columns)[:, None, None]
        return _blocks(pairs.indices, torch.where(below, values.mT, values))

    def __mul__(self, scalar: Any) -> BlockMatrix:
        """Times a number or a tensor without dimensions."""
        if not isinstance(scalar, (int, float, torch.Tensor)) or (isinstance(scalar, torch.Tensor) and scalar.dim()):
            return NotImplemented
        return _blocks(self._at, self.values * scalar)

    __rmul__ = __mul__

    def __neg__(self) -> BlockMatrix:
        return _blocks(self._at, -self.values)

    # ---- parts

    @property
    def T(self) -> BlockMatrix:
        """The transposed matrix, (n, m), in (q, p) blocks."""
        return _blocks(self._at.T, self.values.index_select(0, self._at.by_column[2]).mT)

    def diagonal_blocks(self) -> torch.Tensor:
        """The blocks on the diagonal, (k, p, q), zeros where none is stored: what a Schur complement inverts."""
        entries, rows = self._at.diagonal
        out = self.values.new_zeros(min(self._at.shape), *self.blocksize)
        return out.index_add(0, rows, self.values.index_select(0, entries))

    def block_columns(self, start: int, stop: int) -> BlockMatrix:
        """Block columns from ``start`` up to ``stop``: columns q start to q stop."""
        rows, width = self._at.shape
        if not 0 <= start <= stop <= width:
            raise InputError(f"block columns from {start} up to {stop}", expected=f"0 <= start <= stop <= {width}")
        pattern = self.pattern
        inside = np.flatnonzero((pattern.indices >= start) & (pattern.indices < stop))
        part = SparsityPattern.from_coo(pattern.rows[inside], pattern.indices[inside] - start, (rows, stop - start))
        return BlockMatrix(part, self.values.index_select(0, torch.from_numpy(inside).to(self.device)))

    # ---- other forms

    def entries(self) -> SparseMatrix:
        """The same matrix number by number, zeros in blocks included."""
        (p, q), pattern, width = self.blocksize, self.pattern, self.shape[1]
        rows = pattern.rows.astype(np.int64)[:, None, None] * p + np.arange(p)[:, None]
        columns = pattern.indices.astype(np.int64)[:, None, None] * q + np.arange(q)
        order = np.argsort((rows * width + columns).reshape(-1), kind="stable")
        lengths = np.repeat(np.diff(pattern.indptr), p) * q
        every = np.broadcast_to(columns, (pattern.nnz, p, q)).reshape(-1)[order]
        whole = SparsityPattern.from_csr(np.concatenate([[0], np.cumsum(lengths)]), every, self.shape)
        return SparseMatrix(whole, self.values.reshape(-1).index_select(0, torch.from_numpy(order).to(self.device)))

    def to_dense(self) -> torch.Tensor:
        """The (m, n) tensor, differentiable."""
        p, q = self.blocksize
        places = self._at.rows * self._at.shape[1] + self._at.columns
        whole = self.values.new_zeros(self._at.shape[0] * self._at.shape[1], p, q).index_copy(0, places, self.values)
        return whole.reshape(*self._at.shape, p, q).transpose(1, 2).reshape(self.shape)

    def to_torch(self, layout: torch.layout = torch.sparse_bsr) -> torch.Tensor:
        """A torch tensor of any layout; differentiable."""
        if layout in BLOCK_LAYOUTS:
            return BLOCK_LAYOUTS[layout](self._at, self.values)
        if layout is torch.strided:
            return self.to_dense()
        if layout not in TORCH_LAYOUTS:
            known = ", ".join(map(str, (*BLOCK_LAYOUTS, *TORCH_LAYOUTS)))
            raise OptionError(f"layout={layout!r}", expected=f"one of {known}")
        return self.entries().to_torch(layout)

    def to_scipy(self) -> Any:
        """The numbers as a SciPy ``bsr_array``; SciPy knows nothing of gradients."""
        from scipy.sparse import bsr_array

        values = self.values.detach().cpu().numpy()
        pattern = self.pattern
        return bsr_array((values, pattern.indices, pattern.indptr), shape=self.shape, blocksize=self.blocksize)

    def __repr__(self) -> str:
        (m, n), (p, q) = self.shape, self.blocksize
        return f"BlockMatrix({m} x {n}, {self.pattern.nnz:,} blocks of {p} x {q}, {self.dtype} on {self.device})"


def _blocks(at: Indices, values: torch.Tensor) -> BlockMatrix:
    matrix = BlockMatrix.__new__(BlockMatrix)
    matrix._at, matrix.values = at, values
    return matrix


class Blocks:
    """Which blocks of an (m, n) ``pattern`` hold an entry, and where in them each entry goes.

    places: (nnz,), in the (blocks, p, q) values, ravelled. With ``by_column`` blocks come column by column.
    """

    def __init__(self, pattern: SparsityPattern, size: BlockSize, by_column: bool = False) -> None:
        check_blocks(pattern.shape, size)
        (m, n), (p, q) = pattern.shape, size
        rows, columns = np.divmod(pattern.rows, p), np.divmod(pattern.indices, q)
        keys = rows[0].astype(np.int64) * (n // q) + columns[0]
        distinct, block = np.unique(keys, return_inverse=True)
        self.pattern = SparsityPattern.from_coo(distinct // max(n // q, 1), distinct % max(n // q, 1), (m // p, n // q))
        self.pattern.scope, self.pattern.notes = pattern.scope, pattern.notes
        if by_column:
            order = np.argsort(self.pattern.indices, kind="stable")
            number = np.empty(order.size, np.int64)
            number[order] = np.arange(order.size)
            block = number[block]
        self.size = size
        self.places: IntArray = block * (p * q) + rows[1] * q + columns[1]

    @property
    def full(self) -> bool:
        """Whether every number of every block is an entry."""
        return self.places.size == self.pattern.nnz * self.size[0] * self.size[1]

    def fill(self, device: torch.device, select: IntArray | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
        """From the values of the entries, (nnz,), to blocks; with ``select``, of a matrix in which these are some."""
        shape = (self.pattern.nnz, *self.size)
        if self.full:
            gather = np.empty(self.places.size, np.int64)
            gather[self.places] = np.arange(self.places.size) if select is None else select
            index = torch.from_numpy(gather).to(device)
            return lambda values: values.index_select(0, index).reshape(shape)
        places = torch.from_numpy(self.places.astype(np.int64, copy=False)).to(device)
        chosen = None if select is None else torch.from_numpy(select).to(device)

        def scatter(values: torch.Tensor) -> torch.Tensor:
            mine = values if chosen is None else values.index_select(0, chosen)
            zeros = values.new_zeros(self.pattern.nnz * self.size[0] * self.size[1])
            return zeros.index_copy(0, places, mine).reshape(shape)

        return scatter


def check_blocks(shape: tuple[int, int], size: BlockSize, where: str = "a matrix") -> None:
    """PatternError unless a matrix of ``shape`` is made of blocks of ``size``."""
    if shape[0] % size[0] or shape[1] % size[1]:
        raise PatternError(
            f"blocksize={size} for {where} of shape {shape}",
            expected="a size that divides the shape",
            why="a block layout holds whole blocks",
        )


# ---- the layouts


def bsr(at: Indices, values: torch.Tensor) -> torch.Tensor:
    """torch.sparse_bsr, from blocks row by row."""
    silence_beta()
    shape = (at.shape[0] * values.shape[1], at.shape[1] * values.shape[2])
    return torch.sparse_bsr_tensor(at.crow, at.columns, values, shape, check_invariants=False)


def bsc(at: Indices, values: torch.Tensor) -> torch.Tensor:
    """torch.sparse_bsc, from blocks row by row."""
    return bsc_by_column(at, values.index_select(0, at.by_column[2]))


def bsc_by_column(at: Indices, values: torch.Tensor) -> torch.Tensor:
    """torch.sparse_bsc, from blocks column by column."""
    silence_beta()
    pointers, rows, _ = at.by_column
    shape = (at.shape[0] * values.shape[1], at.shape[1] * values.shape[2])
    return torch.sparse_bsc_tensor(pointers, rows, values, shape, check_invariants=False)


BLOCK_LAYOUTS: dict[torch.layout, Callable[[Indices, torch.Tensor], torch.Tensor]] = {
    torch.sparse_bsr: bsr,
    torch.sparse_bsc: bsc,
}
