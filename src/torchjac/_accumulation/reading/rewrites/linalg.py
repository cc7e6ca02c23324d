"""Solutions of small linear systems: products with the inverse, which is the same solve with a unit matrix.

The entries of such a Jacobian are those of the inverse, so nothing is lost that the result does not have. A triangular
matrix has a triangular inverse: row i sums over the rows up to i only.
"""

from __future__ import annotations

import torch

from ...._base.words import OpResult
from ...._tangent.call import Call
from .products import contract
from .registry import LARGEST, SHORT, rewrite
from .windows import added, put


@rewrite("linalg_lu_solve")
def lu_solve(call: Call) -> OpResult:
    """Solve A X = B (left) or X A = B, by a factorisation of A."""
    b, left = call["B"], call["left"]
    if not _short(call, "B", "LU"):
        return NotImplemented
    inverse = call.op(call["LU"], call["pivots"], _unit(b, call["LU"]), left=left, adjoint=call["adjoint"])
    return contract(inverse, b) if left else contract(b, inverse)


@rewrite("_linalg_solve_ex")
def solve_ex(call: Call) -> OpResult:
    """Return the solution, then a factorisation of A."""
    a, b, left = call["A"], call["B"], call["left"]
    if not _short(call, "B", "A"):
        return NotImplemented
    vector = b.dim() == 1 or (b.dim() == a.dim() - 1 and b.shape == a.shape[:-1])
    inverse, *factors = call.op(a, _unit(b, a), left=left, check_errors=call["check_errors"])
    if vector:
        return contract(inverse, b.unsqueeze(-1)).squeeze(-1), *factors
    return contract(inverse, b) if left else contract(b, inverse), *factors


@rewrite("cholesky_solve")
def cholesky_solve(call: Call) -> OpResult:
    """Solve A X = B, by a factor of A."""
    b, factor = call["self"], call["input2"]
    if not _short(call, "self", "input2"):
        return NotImplemented
    return contract(call.op(_unit(b, factor), factor, upper=call["upper"]), b)


@rewrite("linalg_solve_triangular")
def solve_triangular(call: Call) -> OpResult:
    """Solve A X = B (left) or X A = B, A triangular."""
    a, b, left, upper = call["self"], call["B"], call["left"], call["upper"]
    if not _short(call, "B", "self"):
        return NotImplemented
    inverse = call.op(a, _unit(b, a), upper=upper, left=True, unitriangular=call["unitriangular"])
    if left:
        return _triangular(inverse, b, upper)
    return _triangular(inverse.mT, b.mT, not upper).mT


@rewrite("triangular_solve")
def triangular_solve(call: Call) -> OpResult:
    """Solve by the older op, where self is B; return the solution and a copy of A."""
    a, b, transpose = call["A"], call["self"], call["transpose"]
    if not _short(call, "self", "A"):
        return NotImplemented
    inverse, copy = call.op(_unit(b, a), a, call["upper"], transpose, call["unitriangular"])
    return _triangular(inverse, b, call["upper"] != transpose), copy


def _short(call: Call, right: str, matrix: str) -> bool:
    """Whether only the right side depends on v, and the matrix is small."""
    b, a = call[right], call[matrix]
    return not call.depends(a) and a.shape[-1] <= SHORT and b.numel() * a.shape[-1] <= LARGEST


def _unit(b: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """Return a unit matrix for each matrix of ``a``."""
    return torch.eye(a.shape[-1], dtype=b.dtype, device=b.device).expand(a.shape)


def _triangular(matrix: torch.Tensor, b: torch.Tensor, upper: bool) -> torch.Tensor:
    """Multiply (..., i, k) @ (..., k, j), where the matrix is zero on one side of its diagonal."""
    size = matrix.shape[-1]
    terms = []
    for k in range(size):
        first, last = (0, k + 1) if upper else (k, size)
        term = matrix[..., first:last, k : k + 1] * b[..., k : k + 1, :]
        terms.append(put(term, term.dim() - 2, torch.arange(first, last), size))
    return added(terms)
