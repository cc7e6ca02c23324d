"""Batched linear algebra: dense within a matrix (or a prefix of it, for triangular ones), never across the batch.

Before/after: ``linalg_solve_triangular(A, B, upper=True)``: row i of X collects the rows i, i + 1, ... of B.
"""

from __future__ import annotations

import torch

from ..call import Call
from ..registry import rule
from ..relations import Along, Mix, Relation, Relations


def within(operand: torch.Tensor, events: int, out_dim: int, out_events: int) -> Mix:
    """Mix the last ``events`` dimensions of the operand into the last ``out_events`` of the output, batch by batch."""
    batch, out_batch = operand.dim() - events, out_dim - out_events
    if batch > out_batch:  # the output broadcasts to fewer dimensions than the operand has: sizes 1 lead
        return Mix(operand, (*range(batch - out_batch, batch), *[None] * out_events))
    return Mix(operand, (*[None] * (out_batch - batch), *range(batch), *[None] * out_events))


def along_matrix(operand: torch.Tensor, out_dim: int, dim: int, along: Along) -> Mix:
    """Mix dimension ``dim`` (-2 rows, -1 columns) of matrices whose shape stays; batch dimensions broadcast."""
    lead = out_dim - operand.dim()
    return Mix(operand, (*[None] * lead, *range(operand.dim())), {operand.dim() + dim: along})


@rule("linalg_solve_triangular")
def solve_triangular(call: Call) -> Relations:
    """Solve A X = B (left) or X A = B: X collects B along rows or columns, on one side of the diagonal."""
    left, upper = call["left"], call["upper"]
    along: Along = "suffix" if left == upper else "prefix"
    return _solve(call, "self", along, -2 if left else -1)


@rule("triangular_solve")
def triangular_solve(call: Call) -> tuple[Relations, ...]:
    """Solve by the older op, where self is B; it returns the solution and a copy of A."""
    upper = call["upper"] != call["transpose"]
    relations: list[Relation] = []
    if call.depends(call["self"]):
        relations.append(along_matrix(call["self"], call.out[0].dim(), -2, "suffix" if upper else "prefix"))
    if call.depends(call["A"]):
        relations.append(within(call["A"], 2, call.out[0].dim(), 2))
        return relations, [within(call["A"], 0, call.out[1].dim(), 0)]
    return relations, []


@rule("linalg_lu_solve")
def lu_solve(call: Call) -> Relations:
    """Mix the rows of B, or its columns where the matrix stands on the right."""
    return _solve(call, "LU", "all", -2 if call["left"] else -1)


@rule("_linalg_solve_ex")
def solve_ex(call: Call) -> tuple[Relations, ...]:
    """Return the solution, then a factorisation of A."""
    a, b = call["A"], call["B"]
    vector = b.dim() == 1 or (b.dim() == a.dim() - 1 and b.shape == a.shape[:-1])
    relations: list[Relation] = []
    if call.depends(b):
        dim = -1 if vector or not call["left"] else -2
        relations.append(along_matrix(b, call.out[0].dim(), dim, "all"))
    if call.depends(a):
        relations.append(within(a, 2, call.out[0].dim(), 1 if vector else 2))
    factor: Relations = [within(a, 2, call.out[1].dim(), 2)] if call.depends(a) else []
    return relations, factor


@rule("linalg_matrix_exp", "linalg_inv_ex", "linalg_householder_product")
def dense_matrix(call: Call) -> tuple[Relations, ...]:
    """Every element of a matrix depends on all of it."""
    outs = call.out if isinstance(call.out, tuple) else (call.out,)
    floating = [t for t in outs if t.is_floating_point() or t.is_complex()]
    return tuple(
        [within(t, 2, out.dim(), 2) if t.dim() >= 2 else within(t, 1, out.dim(), 2) for t in call.operands]
        for out in floating
    )


@rule("cholesky_solve")
def cholesky_solve(call: Call) -> Relations:
    """Mix the rows of B, each column apart; every element of a solution depends on all of its factor."""
    b, factor, dim = call["self"], call["input2"], call.out.dim()
    relations: list[Relation] = [along_matrix(b, dim, -2, "all")] if call.depends(b) else []
    return [*relations, within(factor, 2, dim, 2)] if call.depends(factor) else relations


@rule("ormqr")
def ormqr(call: Call) -> Relations:
    """Q C, Q^T C (left) or C Q, C Q^T, with Q from (self, tau)."""
    out, c = call.out, call["input3"]
    relations: list[Relation] = []
    if call.depends(c):
        relations.append(along_matrix(c, out.dim(), -2 if call["left"] else -1, "all"))
    if call.depends(call["self"]):
        relations.append(within(call["self"], 2, out.dim(), 2))
    if call.depends(call["input2"]):
        relations.append(within(call["input2"], 1, out.dim(), 2))
    return relations


def _solve(call: Call, matrix: str, along: Along, dim: int) -> Relations:
    relations: list[Relation] = []
    if call.depends(call["B"]):
        relations.append(along_matrix(call["B"], call.out.dim(), dim, along))
    if call.depends(call[matrix]):
        relations.append(within(call[matrix], 2, call.out.dim(), 2))
    return relations
