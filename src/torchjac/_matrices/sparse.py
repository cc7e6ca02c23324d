"""SparseMatrix: a pattern and its values, multiplied in values space.

``torch.sparse`` has no double backward, no vmap, no ``torch.compile`` and no ``diagonal``. Here the numbers are an
ordinary 1-D tensor that carries the graph, and every product is a gather, a multiplication and a sum into places that
are known beforehand (``indices``), all of which PyTorch differentiates, batches and compiles as often as one likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import torch

from .._base.errors import InputError, OptionError
from .blocking import BLOCK_LAYOUTS, in_blocks
from .factors import require_left_factor, require_right_factor
from .indices import TORCH_LAYOUTS, Indices, csr, indices_of
from .pattern import SparsityPattern

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class SparseMatrix:
    """An (m, n) matrix that is zero outside its pattern; what ``plan.matrix(*args)`` returns.

    >>> import torch, torchjac as tj
    >>> plan = tj.plan_jacobian(lambda x: x[1:] * x[:-1], torch.rand(4))
    >>> J = plan.matrix(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    >>> J
    SparseMatrix(3 x 4, 6 entries, torch.float32 on cpu)
    >>> J @ torch.ones(4), J.T @ torch.ones(3)
    (tensor([3., 5., 7.]), tensor([2., 4., 6., 3.]))
    >>> J.gram().diagonal()
    tensor([ 4., 10., 20.,  9.])

    Every result follows grad mode, to any order, and works under ``torch.func`` and ``torch.compile``. Inside these,
    ``J.with_values(v)`` puts other numbers into the same places.

    Parameters
    ----------
    pattern: where the entries are, (m, n).
    values: their values, (nnz,), row-major, on any device and with or without a graph.
    """

    __array_ufunc__ = None  # NumPy's numbers and arrays leave products with a SparseMatrix to it

    def __init__(self, pattern: SparsityPattern, values: torch.Tensor) -> None:
        if tuple(values.shape) != (pattern.nnz,):
            raise InputError(
                f"values of shape {tuple(values.shape)} for a pattern of {pattern.nnz} entries",
                expected=f"shape ({pattern.nnz},): one value an entry, row by row",
            )
        self._at, self.values = indices_of(pattern, values.device), values

    def __getstate__(self) -> tuple[SparsityPattern, torch.Tensor]:
        return self.pattern, self.values

    def __setstate__(self, state: tuple[SparsityPattern, torch.Tensor]) -> None:
        pattern, self.values = state
        self._at = indices_of(pattern, self.values.device)

    def with_values(self, values: torch.Tensor) -> SparseMatrix:
        """The matrix of the same pattern with other values, (nnz,); nothing is prepared again."""
        return _matrix(self._at, values)

    @property
    def pattern(self) -> SparsityPattern:
        """The pattern of the stored entries."""
        return self._at.pattern

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n) of the matrix."""
        return self._at.shape

    @property
    def nnz(self) -> int:
        """The number of stored entries."""
        return self._at.pattern.nnz

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
    def __matmul__(self, other: SparseMatrix) -> SparseMatrix: ...
    def __matmul__(self, other: torch.Tensor | SparseMatrix) -> torch.Tensor | SparseMatrix:
        """The product ``J.matmul(other)``."""
        return self.matmul(other) if isinstance(other, (torch.Tensor, SparseMatrix)) else NotImplemented

    @overload
    def matmul(self, other: torch.Tensor) -> torch.Tensor: ...
    @overload
    def matmul(self, other: SparseMatrix) -> SparseMatrix: ...
    def matmul(self, other: torch.Tensor | SparseMatrix) -> torch.Tensor | SparseMatrix:
        """The product with a vector (n,), a matrix (n, k), or an (n, k) SparseMatrix, which gives a SparseMatrix.

        With a gradient, a matrix takes nnz x k numbers for a moment. Inside ``torch.compile(fullgraph=True)`` write
        ``J.matmul(x)`` and ``J.T.matmul(x)``: Dynamo knows no ``@`` of an object and a tensor, and breaks there.
        """
        if isinstance(other, SparseMatrix):
            return self._times(other)
        require_right_factor(self.shape, other)
        if _only_numbers(self.values, other) and self.nnz:
            self._at.prepare()  # Dynamo, which may come later, cannot
            return csr(self._at, self.values.detach()) @ other.detach()
        return self._at.row_sums(self.values, other.index_select(0, self._at.columns))

    def __rmatmul__(self, other: torch.Tensor) -> torch.Tensor:
        """The product ``other @ J`` of a vector (m,) or a matrix (k, m) and this matrix."""
        if not isinstance(other, torch.Tensor):
            return NotImplemented
        require_left_factor(self.shape, other)
        if _only_numbers(self.values, other) and self.nnz:
            return self.T.matmul(other) if other.dim() == 1 else self.T.matmul(other.T).T
        terms = self.values * other.index_select(-1, self._at.rows)
        return terms.new_zeros((*terms.shape[:-1], self.shape[1])).index_add(-1, self._at.columns, terms)

    def _times(self, other: SparseMatrix) -> SparseMatrix:
        if self.shape[1] != other.shape[0]:
            raise InputError(
                f"a {self.shape[0]} x {self.shape[1]} matrix times a {other.shape[0]} x {other.shape[1]} matrix",
                expected=f"{self.shape[1]} rows in the second",
            )
        pairs = self._at.times(other._at)
        return _matrix(pairs.indices, pairs.values(self.values, other.values))

    def gram(self, weights: torch.Tensor | SparseMatrix | None = None) -> SparseMatrix:
        """The matrix J^T J, (n, n), or J^T W J for ``weights`` W: a Gauss-Newton or Fisher matrix.

        Every entry that can be nonzero is stored; where they are is found once for a pattern. ``weights`` is one number
        a row, (m,), for a diagonal W, or a SparseMatrix (m, m), as of ``plan_hessian(loss, y).matrix(y)``.
        """
        if isinstance(weights, SparseMatrix):
            return self.T._times(weights._times(self))
        pairs = self._at.gram
        if weights is None:
            return _matrix(pairs.indices, pairs.values(self.values, self.values))
        if tuple(weights.shape) != (self.shape[0],):
            raise InputError(
                f"weights of shape {tuple(weights.shape)} for a {self.shape[0]} x {self.shape[1]} matrix",
                expected=f"shape ({self.shape[0]},), one number a row, or a SparseMatrix",
                instead="torchjac.SparseMatrix(pattern, values) for weights that are a matrix",
            )
        weighted = self.values * weights.index_select(0, self._at.rows)
        return _matrix(pairs.indices, pairs.values(weighted, self.values))

    def __mul__(self, scalar: float | torch.Tensor) -> SparseMatrix:
        """The product with a number or a tensor without dimensions."""
        if isinstance(scalar, torch.Tensor) and scalar.dim() > 0:
            raise InputError(
                f"a SparseMatrix * a tensor of shape {tuple(scalar.shape)}",
                expected="a number, or a tensor without dimensions",
                instead="J @ x for the product with a vector or a matrix",
            )
        if not isinstance(scalar, (int, float, torch.Tensor)):
            return NotImplemented
        return _matrix(self._at, self.values * scalar)

    __rmul__ = __mul__

    def __neg__(self) -> SparseMatrix:
        return _matrix(self._at, -self.values)

    # ---- other forms

    @property
    def T(self) -> SparseMatrix:
        """The transposed matrix, (n, m)."""
        return _matrix(self._at.T, self.values.index_select(0, self._at.by_column[2]))

    def diagonal(self) -> torch.Tensor:
        """The diagonal, (min(m, n),), with zeros where nothing is stored."""
        entries, rows = self._at.diagonal
        return self.values.new_zeros(min(self.shape)).index_add(0, rows, self.values.index_select(0, entries))

    def to_dense(self) -> torch.Tensor:
        """The (m, n) tensor, differentiable."""
        return self.to_torch(torch.strided)

    def to_torch(
        self, layout: torch.layout = torch.sparse_csr, blocksize: tuple[int, int] | None = None
    ) -> torch.Tensor:
        """A torch tensor of ``layout``: sparse_coo, sparse_csr, sparse_csc or strided; differentiable.

        With ``blocksize=(rows, columns)``, which divide the shape, also sparse_bsr or sparse_bsc.
        """
        if layout in BLOCK_LAYOUTS:
            return in_blocks(self.pattern, self.values, layout, blocksize)
        if layout not in TORCH_LAYOUTS or blocksize is not None:
            names = ", ".join(map(str, TORCH_LAYOUTS))
            raise OptionError(
                f"layout={layout!r}, blocksize={blocksize!r}",
                expected=f"one of {names}; or torch.sparse_bsr or torch.sparse_bsc, with a blocksize",
            )
        return TORCH_LAYOUTS[layout](self._at, self.values)

    def to_scipy(self) -> csr_array:
        """The numbers as a SciPy ``csr_array``; SciPy knows nothing of gradients."""
        from scipy.sparse import csr_array

        if self.dtype is torch.bfloat16:
            raise InputError(
                "a SparseMatrix of bfloat16",
                expected="a dtype that NumPy has",
                instead="J.with_values(J.values.float()).to_scipy()",
            )
        shell = self.pattern.to_scipy()
        return csr_array((self.values.detach().cpu().numpy(), shell.indices, shell.indptr), shape=self.shape)

    def __repr__(self) -> str:
        m, n = self.shape
        return f"SparseMatrix({m} x {n}, {self.nnz:,} entries, {self.dtype} on {self.device})"


def _matrix(at: Indices, values: torch.Tensor) -> SparseMatrix:
    """The matrix of these values, made without the pattern, so that ``torch.compile`` can trace it."""
    matrix = SparseMatrix.__new__(SparseMatrix)
    matrix._at, matrix.values = at, values
    return matrix


def _only_numbers(*factors: torch.Tensor) -> bool:
    """Whether a kernel of torch.sparse may do the work: nothing is differentiated, batched, traced or compiled."""
    if (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack()
        or torch.autograd.forward_ad._current_level >= 0
    ):
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    first = factors[0]
    plain = all(type(t) in _PLAIN and t.dtype is first.dtype and t.device == first.device for t in factors)
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in factors)
    return plain and not wanted and first.dtype in _KERNELS and _has_kernels(first.device)


_PLAIN = (torch.Tensor, torch.nn.Parameter)
_KERNELS = (torch.float32, torch.float64)


def _has_kernels(device: torch.device) -> bool:
    """Whether torch multiplies CSR matrices there: on a CPU it leaves that to MKL."""
    return device.type == "cuda" or (device.type == "cpu" and torch.backends.mkl.is_available())
