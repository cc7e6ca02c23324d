"""BlockMatrix: a sparse matrix of dense blocks of one size, multiplied block by block.

A block is stored when any of its entries is; what is missing in it is a zero. With (2, 9) blocks there is one column
index for 18 numbers. Everything is as in ``sparse``: values are an ordinary tensor, (blocks, p, q), which carries the
graph; products gather blocks, multiply them in one batch, and add them up in places that are known beforehand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np
import torch

from .._base.errors import InputError, OptionError
from .blocking import BLOCK_LAYOUTS, Blocking, BlockSize
from .factors import require_left_factor, require_right_factor
from .indices import TORCH_LAYOUTS, Indices, indices_of
from .pattern import SparsityPattern
from .sparse import SparseMatrix

if TYPE_CHECKING:
    from scipy.sparse import bsr_array


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
        blocks = Blocking(matrix.pattern, blocksize)
        return cls(blocks.pattern, blocks.fill(matrix.device)(matrix.values))

    def with_values(self, values: torch.Tensor) -> BlockMatrix:
        """The matrix with other blocks, (blocks, p, q), in the same places."""
        return _blocks(self._at, values)

    @property
    def pattern(self) -> SparsityPattern:
        """The pattern of the blocks, (m / p, n / q)."""
        return self._at.pattern

    @property
    def blocksize(self) -> BlockSize:
        """The size (p, q) of a block."""
        return self.values.shape[1], self.values.shape[2]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the matrix."""
        return self._at.shape[0] * self.values.shape[1], self._at.shape[1] * self.values.shape[2]

    @property
    def nnz(self) -> int:
        """The number of stored numbers, zeros in blocks included."""
        return self.values.numel()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """The device of the values."""
        return self.values.device

    # ---- products

    @overload
    def __matmul__(self, other: torch.Tensor) -> torch.Tensor: ...
    @overload
    def __matmul__(self, other: BlockMatrix) -> BlockMatrix: ...
    def __matmul__(self, other: torch.Tensor | BlockMatrix) -> torch.Tensor | BlockMatrix:
        """The product ``J.matmul(other)``."""
        return self.matmul(other) if isinstance(other, (torch.Tensor, BlockMatrix)) else NotImplemented

    @overload
    def matmul(self, other: torch.Tensor) -> torch.Tensor: ...
    @overload
    def matmul(self, other: BlockMatrix) -> BlockMatrix: ...
    def matmul(self, other: torch.Tensor | BlockMatrix) -> torch.Tensor | BlockMatrix:
        """The product with a vector (n,), a matrix (n, k), or an (n, k) BlockMatrix with blocks of q rows."""
        if isinstance(other, BlockMatrix):
            return self._times(other)
        require_right_factor(self.shape, other)
        width = other.shape[1] if other.dim() == 2 else 1
        read = other.reshape(self._at.shape[1], self.blocksize[1], width).index_select(0, self._at.columns)
        out = self._at.row_totals(torch.bmm(self.values, read))
        return out.reshape(self.shape[0], *other.shape[1:])

    def __rmatmul__(self, other: torch.Tensor) -> torch.Tensor:
        """The product ``other @ J`` of a vector (m,) or a matrix (k, m) and this matrix."""
        if not isinstance(other, torch.Tensor):
            return NotImplemented
        require_left_factor(self.shape, other)
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
        """The Gauss-Newton matrix J^T J, in (q, q) blocks; their places are computed once for a pattern."""
        pairs = self._at.gram
        left, right = self.values.index_select(0, pairs.left), self.values.index_select(0, pairs.right)
        above = pairs.total(torch.bmm(left.mT, right))
        assert pairs.spread is not None  # half of it is computed
        values = above.index_select(0, pairs.spread)
        below = (pairs.indices.rows > pairs.indices.columns)[:, None, None]
        return _blocks(pairs.indices, torch.where(below, values.mT, values))

    def __mul__(self, scalar: float | torch.Tensor) -> BlockMatrix:
        """The product with a number or a tensor without dimensions."""
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
        """Return the matrix number by number, zeros in blocks included."""
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

    def to_scipy(self) -> bsr_array:
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
