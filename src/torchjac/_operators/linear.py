"""Linear operators: matrices that are known by their products, and what can be made of them."""

from __future__ import annotations

from functools import cached_property
from typing import TypeGuard, overload

import numpy as np
import torch

from .._base.errors import InputError
from .._matrices.pattern import SparsityPattern
from .._matrices.sparse import SparseMatrix
from .matrix_free import MatrixFree

Number = int | float | torch.Tensor
AnyNumber = Number | np.floating | np.integer


class LinearOperator(MatrixFree):
    """An (m, n) matrix by its products: ``@``, ``.T``, ``A[i, j]``, sums, products and multiples of such.

    What is made of operators is an operator: nothing is multiplied before a tensor is.
    """

    __array_ufunc__ = None  # NumPy's numbers and arrays leave products with an operator to it

    # ---- products

    @overload
    def __matmul__(self, other: torch.Tensor) -> torch.Tensor: ...
    @overload
    def __matmul__(self, other: LinearOperator | SparseMatrix) -> LinearOperator: ...
    def __matmul__(self, other: torch.Tensor | LinearOperator | SparseMatrix) -> torch.Tensor | LinearOperator:
        """Return ``A @ x``, (n,) -> (m,) or (n, k) -> (m, k); an operator for an operator or a SparseMatrix."""
        if isinstance(other, (LinearOperator, SparseMatrix)):
            return Product(self, _operator(other))
        return self._times(other) if isinstance(other, torch.Tensor) else NotImplemented

    @overload
    def __rmatmul__(self, other: torch.Tensor) -> torch.Tensor: ...
    @overload
    def __rmatmul__(self, other: SparseMatrix) -> LinearOperator: ...
    def __rmatmul__(self, other: torch.Tensor | SparseMatrix) -> torch.Tensor | LinearOperator:
        """Return ``u @ A``, (m,) -> (n,) or (k, m) -> (k, n)."""
        if isinstance(other, SparseMatrix):
            return Product(_operator(other), self)
        return self._transposed_times(other) if isinstance(other, torch.Tensor) else NotImplemented

    @property
    def T(self) -> LinearOperator:
        """The transposed operator, (n, m)."""
        return Transposed(self)

    def gram(self) -> LinearOperator:
        """Return ``A.T @ A``, (n, n), an operator; ``plan.matrix(*args).gram()`` is a sparse matrix."""
        return self.T @ self

    # ---- algebra

    def __add__(self, other: LinearOperator | SparseMatrix) -> LinearOperator:
        return Sum(self, _operator(other)) if isinstance(other, (LinearOperator, SparseMatrix)) else NotImplemented

    __radd__ = __add__

    def __neg__(self) -> LinearOperator:
        return Multiple(self, -1)

    def __sub__(self, other: LinearOperator | SparseMatrix) -> LinearOperator:
        return self + -other if isinstance(other, (LinearOperator, SparseMatrix)) else NotImplemented

    def __rsub__(self, other: SparseMatrix) -> LinearOperator:
        return -self + other if isinstance(other, SparseMatrix) else NotImplemented

    def __mul__(self, factor: AnyNumber) -> LinearOperator:
        """Return the operator times a number or a tensor without dimensions."""
        return Multiple(self, factor) if _is_number(factor) else NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, factor: AnyNumber) -> LinearOperator:
        return Multiple(self, 1 / factor) if _is_number(factor) else NotImplemented


def _is_number(factor: object) -> TypeGuard[Number]:
    """Tell whether ``factor`` is one number; those of NumPy are to a tensor what those of Python are."""
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
        """The pattern of the matrix."""
        return self._matrix.pattern

    def all_values(self, at_most: int) -> torch.Tensor:
        return self._matrix.values

    def vouch(self) -> None:
        """Check nothing: the pattern of a matrix is right."""


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
        """The operator that this is the transpose of."""
        return self._of


class Product(LinearOperator):
    """The product ``A @ B``: first B, then A."""

    def __init__(self, left: LinearOperator, right: LinearOperator) -> None:
        _same(left, right, left.shape[1] == right.shape[0], "@", f"{left.shape[1]} rows in the second")
        super().__init__((left.shape[0], right.shape[1]), left.dtype, left.device)
        self._left, self._right = left, right

    def jvps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._left.jvps(self._right.jvps(seeds))

    def vjps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._right.vjps(self._left.vjps(seeds))

    def vouch(self) -> None:
        """Check nothing: a product has no pattern."""


class Sum(LinearOperator):
    """The sum ``A + B``."""

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
        """The union of both patterns, where both are known."""
        left, right = self._left.pattern, self._right.pattern
        return None if left is None or right is None else left | right

    def vouch(self) -> None:
        self._left.vouch()
        self._right.vouch()


class Multiple(LinearOperator):
    """The multiple of an operator by a number."""

    def __init__(self, of: LinearOperator, factor: Number) -> None:
        super().__init__(of.shape, of.dtype, of.device)
        self._of, self._factor = of, factor

    def jvps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._of.jvps(seeds) * self._factor

    def vjps(self, seeds: torch.Tensor) -> torch.Tensor:
        return self._of.vjps(seeds) * self._factor

    @property
    def pattern(self) -> SparsityPattern | None:
        """The pattern of the operator that is multiplied."""
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
