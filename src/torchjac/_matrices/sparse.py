"""SparseMatrix: a pattern and its values, multiplied in values space.

``torch.sparse`` has no double backward, no vmap, no ``torch.compile`` and no ``diagonal``. Here the numbers are an
ordinary 1-D tensor that carries the graph, and every product is a gather, a multiplication and a sum into places that
are known beforehand (``_indices``), all of which PyTorch differentiates, batches and compiles as often as one likes.
"""

from __future__ import annotations

from typing import Any

import torch

from .._base.errors import InputError, OptionError
from .blocking import BLOCKED, blocked
from .indices import TORCH_LAYOUTS, Indices, csr, indices_of
from .pattern import SparsityPattern


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

    def with_values(self, values: torch.Tensor) -> SparseMatrix:
        """The matrix of the same pattern with other values, (nnz,); nothing is prepared again."""
        return _matrix(self._at, values)

    @property
    def pattern(self) -> SparsityPattern:
        """Where the entries are."""
        return self._at.pattern

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self._at.shape

    @property
    def nnz(self) -> int:
        """The number of stored entries."""
        return self._at.pattern.nnz

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
        return self.matmul(other) if isinstance(other, (torch.Tensor, SparseMatrix)) else NotImplemented

    def matmul(self, other: Any) -> Any:
        """``J @ other``, for a vector (n,), a matrix (n, k), or an (n, k) SparseMatrix, which gives a SparseMatrix.

        With a gradient, a matrix takes nnz x k numbers for a moment. Inside ``torch.compile(fullgraph=True)`` write
        ``J.matmul(x)`` and ``J.T.matmul(x)``: Dynamo knows no ``@`` of an object and a tensor, and breaks there.
        """
        if isinstance(other, SparseMatrix):
            return self._times(other)
        if other.dim() not in (1, 2) or other.shape[0] != self.shape[1]:
            raise InputError(
                f"a {self.shape[0]} x {self.shape[1]} matrix times a tensor of shape {tuple(other.shape)}",
                expected=f"shape ({self.shape[1]},) or ({self.shape[1]}, k)",
            )
        if _only_numbers(self.values, other) and self.nnz:
            self._at.prepare()  # Dynamo, which may come later, cannot
            return csr(self._at, self.values.detach()) @ other.detach()
        return self._at.row_sums(self.values, other.index_select(0, self._at.columns))

    def __rmatmul__(self, other: Any) -> Any:
        """A vector (m,) or a matrix (k, m) times this one."""
        if not isinstance(other, torch.Tensor):
            return NotImplemented
        if other.dim() not in (1, 2) or other.shape[-1] != self.shape[0]:
            raise InputError(
                f"a tensor of shape {tuple(other.shape)} times a {self.shape[0]} x {self.shape[1]} matrix",
                expected=f"shape ({self.shape[0]},) or (k, {self.shape[0]})",
            )
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
        """J^T J, (n, n), or J^T W J for ``weights`` W: a Gauss-Newton or Fisher matrix.

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

    def __mul__(self, scalar: Any) -> SparseMatrix:
        """Times a number or a tensor without dimensions."""
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
        if layout in BLOCKED:
            return blocked(self._at, self.values, layout, blocksize)
        if layout not in TORCH_LAYOUTS or blocksize is not None:
            names = ", ".join(map(str, TORCH_LAYOUTS))
            raise OptionError(
                f"layout={layout!r}, blocksize={blocksize!r}",
                expected=f"one of {names}; or torch.sparse_bsr or torch.sparse_bsc, with a blocksize",
            )
        return TORCH_LAYOUTS[layout](self._at, self.values)

    def to_scipy(self) -> Any:
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
    """Without a look at the pattern, so that it can be traced by ``torch.compile``."""
    matrix = SparseMatrix.__new__(SparseMatrix)
    matrix._at, matrix.values = at, values
    return matrix


def _only_numbers(*factors: torch.Tensor) -> bool:
    """Whether nobody differentiates, batches, traces or compiles, so that a kernel of torch.sparse may do the work."""
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
