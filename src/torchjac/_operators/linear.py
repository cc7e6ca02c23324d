"""Linear operators: matrices that are known by their products, and what can be made of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import torch

from .._base.errors import InputError
from .._function.leaves import describe
from .._matrices.pattern import SparsityPattern
from .._matrices.sparse import SparseMatrix
from .._products.chunk import chunk_size
from .entries import select

Number = int | float | torch.Tensor


class LinearOperator(ABC):
    """An (m, n) matrix by its products: ``@``, ``.T``, ``A[i, j]``, sums, products and multiples of such.

    What is made of operators is an operator: nothing is multiplied before a tensor is.
    """

    __array_ufunc__ = None  # NumPy's numbers and arrays leave products with an operator to it

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device

    # ---- what an operator must know

    @abstractmethod
    def jvps(self, seeds: torch.Tensor) -> torch.Tensor:
        """The product with every row of ``seeds``: (k, n) -> (k, m)."""

    @abstractmethod
    def vjps(self, seeds: torch.Tensor) -> torch.Tensor:
        """The transposed product with every row of ``seeds``: (k, m) -> (k, n)."""

    @property
    def pattern(self) -> SparsityPattern | None:
        """Where entries can be nonzero; None where that is not known."""
        return None

    def all_values(self, at_most: int) -> torch.Tensor | None:
        """The values of all entries of the pattern, where they take at most so many products; else None."""
        return None

    @abstractmethod
    def vouch(self) -> None:
        """Raise if the pattern is wrong; called before zeros are taken from it."""

    # ---- products

    def __matmul__(self, other: Any) -> Any:
        """``A @ x``, (n,) -> (m,) or (n, k) -> (m, k); an operator for an operator or a SparseMatrix."""
        if isinstance(other, (LinearOperator, SparseMatrix)):
            return Product(self, _operator(other))
        if not isinstance(other, torch.Tensor):
            return NotImplemented
        self._fits(other, 0, self.shape[1], "A @ x", "k")
        return self.jvps(other[None])[0] if other.dim() == 1 else self.jvps(other.T).T

    def __rmatmul__(self, other: Any) -> Any:
        """``u @ A``, (m,) -> (n,) or (k, m) -> (k, n)."""
        if isinstance(other, SparseMatrix):
            return Product(_operator(other), self)
        if not isinstance(other, torch.Tensor):
            return NotImplemented
        self._fits(other, -1, self.shape[0], "u @ A", "k")
        return self.vjps(other[None])[0] if other.dim() == 1 else self.vjps(other)

    def _fits(self, x: torch.Tensor, dim: int, size: int, what: str, k: str) -> None:
        if x.dim() not in (1, 2) or x.shape[dim] != size or x.layout is not torch.strided:
            shapes = f"({size},) or ({size}, {k})" if dim == 0 else f"({size},) or ({k}, {size})"
            raise InputError(
                f"{what} of {self!r} with a {x.layout} tensor of shape {tuple(x.shape)}",
                expected=f"a strided tensor of shape {shapes}",
                why="rows are the ravelled outputs, columns the ravelled inputs",
            )
        if x.dtype != self.dtype or x.device != self.device:
            raise InputError(
                f"{what} of {self!r} with {describe(x)}",
                expected=f"{self.dtype} on {self.device}",
                instead="x.to(A.device, A.dtype)",
            )

    @property
    def T(self) -> LinearOperator:
        """The transposed operator, (n, m)."""
        return Transposed(self)

    def gram(self) -> LinearOperator:
        """``A.T @ A``, (n, n), an operator; ``plan.matrix(*args).gram()`` is a sparse matrix."""
        return self.T @ self  # type: ignore[no-any-return]  # of two operators an operator

    # ---- entries

    def __getitem__(self, index: Any) -> torch.Tensor:
        """What ``A.to_dense()[index]`` holds, by as few products as possible.

        Ints, slices, lists, tensors, masks, ``None`` and ``...`` mean what they mean to a tensor. Without a pattern it
        takes a product for every row or every column that is asked for, whichever are fewer; with one, rows or columns
        that do not get in each other's way share a product, and entries outside of it cost nothing.
        """
        return select(self, index)

    def rows(self, i: Any) -> torch.Tensor:
        """``A[i, :]``: (n,) for an int, (k, n) for a slice, list or tensor."""
        return self[i, :]

    def columns(self, j: Any) -> torch.Tensor:
        """``A[:, j]``: (m,) for an int, (m, k) for a slice, list or tensor."""
        return self[:, j]

    def diagonal(self) -> torch.Tensor:
        """The diagonal, (min(m, n),)."""
        along = torch.arange(min(self.shape))
        return self[along, along]

    # ---- other forms

    def to_dense(self) -> torch.Tensor:
        """The (m, n) tensor; it takes min(m, n) products, or as many as the pattern has colors."""
        if self.pattern is not None:
            return SparseMatrix(self.pattern, self._values(self.pattern)).to_dense()
        m, n = self.shape
        count, of = (n, self.jvps) if n < m else (m, self.vjps)
        unit = torch.eye(count, dtype=self.dtype, device=self.device)
        chunk = chunk_size(count, m + n, self.dtype.itemsize)
        parts = [of(unit[start : start + chunk]) for start in range(0, count, chunk)]
        whole = torch.cat(parts) if parts else torch.zeros(0, max(m, n), dtype=self.dtype, device=self.device)
        return whole.T if n < m else whole

    def _values(self, pattern: SparsityPattern) -> torch.Tensor:
        values = self.all_values(max(self.shape))
        rows = torch.from_numpy(pattern.rows.astype(np.int64))
        return self[rows, pattern.col_indices] if values is None else values

    def to_scipy(self) -> Any:
        """A ``scipy.sparse.linalg.LinearOperator``: NumPy in and out, for ``lsqr``, ``gmres``, ``svds``, ``eigs``."""
        from scipy.sparse.linalg import LinearOperator as ScipyOperator

        def through(product: Any) -> Any:
            def apply(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
                if np.iscomplexobj(x):
                    return apply(x.real) + 1j * apply(x.imag)
                with torch.no_grad():
                    rows = torch.from_numpy(np.ascontiguousarray(np.atleast_2d(x.T))).to(self.device, self.dtype)
                    out: np.ndarray[Any, Any] = product(rows).cpu().numpy().T
                return out[:, 0] if x.ndim == 1 else out

            return apply

        if self.dtype is torch.bfloat16:
            raise InputError(
                f"{self!r}", expected="a dtype that NumPy has", why="SciPy computes with NumPy", instead="x.float()"
            )
        there, back = through(self.jvps), through(self.vjps)
        dtype = torch.empty(0, dtype=self.dtype).numpy().dtype
        return ScipyOperator(self.shape, matvec=there, rmatvec=back, matmat=there, rmatmat=back, dtype=dtype)

    # ---- algebra

    def __add__(self, other: Any) -> Any:
        return Sum(self, _operator(other)) if isinstance(other, (LinearOperator, SparseMatrix)) else NotImplemented

    __radd__ = __add__

    def __neg__(self) -> LinearOperator:
        return Multiple(self, -1)

    def __sub__(self, other: Any) -> Any:
        return self + -other if isinstance(other, (LinearOperator, SparseMatrix)) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return -self + other if isinstance(other, SparseMatrix) else NotImplemented

    def __mul__(self, factor: Any) -> Any:
        """Times a number or a tensor without dimensions."""
        return Multiple(self, factor) if _is_number(factor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, factor: Any) -> Any:
        return Multiple(self, 1 / factor) if _is_number(factor) else NotImplemented

    def __repr__(self) -> str:
        m, n = self.shape
        known = "" if self.pattern is None else f", {self.pattern.nnz:,} entries"
        return f"{type(self).__name__}({m} x {n}{known}, {self.dtype} on {self.device})"


def _is_number(factor: Any) -> bool:
    if isinstance(factor, torch.Tensor):
        return factor.dim() == 0
    return isinstance(factor, (int, float, np.floating, np.integer))


def _operator(matrix: LinearOperator | SparseMatrix) -> LinearOperator:
    return matrix if isinstance(matrix, LinearOperator) else Stored(matrix)


class Stored(LinearOperator):
    """A SparseMatrix among operators."""

    def __init__(self, matrix: SparseMatrix) -> None:
        super().__init__(matrix.shape, matrix.dtype, matrix.device)
        self._matrix = matrix

    def jvps(self, seeds: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self._matrix.matmul(seeds.T).T
        return out

    def vjps(self, seeds: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = seeds @ self._matrix
        return out

    @property
    def pattern(self) -> SparsityPattern:
        """Of the matrix."""
        return self._matrix.pattern

    def all_values(self, at_most: int) -> torch.Tensor:
        return self._matrix.values

    def vouch(self) -> None:
        """Who made the matrix answers for its pattern."""


class Transposed(LinearOperator):
    """The transpose of an operator."""

    def __init__(self, of: LinearOperator) -> None:
        super().__init__((of.shape[1], of.shape[0]), of.dtype, of.device)
        self._of = of

    def jvps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._of.vjps(seeds)

    def vjps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._of.jvps(seeds)

    @property
    def pattern(self) -> SparsityPattern | None:
        """The transposed pattern."""
        return None if self._of.pattern is None else self._of.pattern.T

    def all_values(self, at_most: int) -> torch.Tensor | None:
        values, pattern = self._of.all_values(at_most), self._of.pattern
        return None if values is None or pattern is None else SparseMatrix(pattern, values).T.values

    def vouch(self) -> None:
        self._of.vouch()

    @property
    def T(self) -> LinearOperator:
        """What this is the transpose of."""
        return self._of


class Product(LinearOperator):
    """``A @ B``: first B, then A."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        _same(left, right, left.shape[1] == right.shape[0], "@", f"{left.shape[1]} rows in the second")
        super().__init__((left.shape[0], right.shape[1]), left.dtype, left.device)
        self._left, self._right = left, right

    def jvps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._left.jvps(self._right.jvps(seeds))

    def vjps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._right.vjps(self._left.vjps(seeds))

    def vouch(self) -> None:
        """There is no pattern."""


class Sum(LinearOperator):
    """``A + B``."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        _same(left, right, left.shape == right.shape, "+", "the same shape")
        super().__init__(left.shape, left.dtype, left.device)
        self._left, self._right = left, right

    def jvps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._left.jvps(seeds) + self._right.jvps(seeds)

    def vjps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._left.vjps(seeds) + self._right.vjps(seeds)

    @cached_property
    def pattern(self) -> SparsityPattern | None:
        """The entries of either, where both are known."""
        left, right = self._left.pattern, self._right.pattern
        return None if left is None or right is None else left | right

    def vouch(self) -> None:
        self._left.vouch()
        self._right.vouch()


class Multiple(LinearOperator):
    """A number times an operator."""

    def __init__(self, of: LinearOperator, factor: Number) -> None:
        super().__init__(of.shape, of.dtype, of.device)
        self._of, self._factor = of, factor

    def jvps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._of.jvps(seeds) * self._factor

    def vjps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._of.vjps(seeds) * self._factor

    @property
    def pattern(self) -> SparsityPattern | None:
        """That of what is multiplied."""
        return self._of.pattern

    def all_values(self, at_most: int) -> torch.Tensor | None:
        values = self._of.all_values(at_most)
        return None if values is None else values * self._factor

    def vouch(self) -> None:
        self._of.vouch()


def _same(left: LinearOperator, right: LinearOperator, fit: bool, sign: str, expected: str) -> None:
    if not fit:
        raise InputError(f"{left!r} {sign} {right!r}", expected=expected)
    if left.dtype != right.dtype or left.device != right.device:
        raise InputError(f"{left!r} {sign} {right!r}", expected="the same dtype and device of both")
