"""``check_jacobian``: is a Jacobian that somebody computed right, and if not, where and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .._base.errors import DerivativeMismatchError, InputError
from .._base.random_state import random_numbers
from .._base.words import UserFunction
from .._function.flat import Argnums
from .._function.leaves import place
from .._operators.jacobian import JacobianOperator
from .causes import Evidence, likely_cause
from .claim import Claim, Numbers, ShapeMismatch, as_numpy, read_claim

_LINES = 12  # so many wrong rows, and as many columns, are computed alone
_SHOWN = 5  # so many entries are named


@dataclass(frozen=True)
class WrongEntry:
    """An entry, as the places of the output and the input, and as (row, column) of the ravelled matrix."""

    output: str
    input: str
    row: int
    column: int
    got: float
    expected: float

    def __str__(self) -> str:
        return f"d {self.output} / d {self.input} is {self.got:.6g}, expected {self.expected:.6g}"


@dataclass(frozen=True)
class JacobianReport:
    """What ``check_jacobian`` found; true where the Jacobian is right.

    Attributes
    ----------
    right: whether it is.
    shape: (m, n).
    error: the largest error of a random product, relative to the sizes of what was added.
    rows, columns: how many are wrong, of those where it can be seen above rounding.
    entries: the worst ones.
    cause: what explains all that is wrong, if something does.
    """

    right: bool
    shape: tuple[int, int]
    error: float
    rows: int = 0
    columns: int = 0
    entries: tuple[WrongEntry, ...] = ()
    cause: str = ""

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        m, n = self.shape
        if self.right:
            return f"JacobianReport(right, {m} x {n}, relative error {self.error:.1g})"
        lines = [f"JacobianReport(wrong, {m} x {n}, in {self.rows} rows and {self.columns} columns)"]
        lines += [f"  {entry}" for entry in self.entries]
        return "\n".join([*lines, *([f"  likely cause: {self.cause}"] if self.cause else [])])


def check_jacobian(
    f: UserFunction,
    args: Any,
    J: Any,
    argnums: Argnums = 0,
    *,
    tolerance: float | None = None,
    raises: bool = True,
) -> JacobianReport:
    """Is ``J`` the Jacobian of ``f`` at ``args``? Two products of plain autograd tell; more only if it is wrong.

    >>> import torch, torchjac as tj
    >>> def f(x):
    ...     return x.sin() * x[0]
    >>> x = torch.linspace(1, 2, 4, dtype=torch.float64)
    >>> tj.check_jacobian(f, (x,), torch.func.jacrev(f)(x))
    JacobianReport(right, 4 x 4, relative error ...)
    >>> mine = torch.diag(x.cos() * x[0])  # forgets that x[0] is read too
    >>> tj.check_jacobian(f, (x,), mine, raises=False)
    JacobianReport(wrong, 4 x 4, in 4 rows and 1 columns)
      d f(...)[2] / d args[0][0] is 0, expected 0.995408
      d f(...)[1] / d args[0][0] is 0, expected 0.971938
      d f(...)[3] / d args[0][0] is 0, expected 0.909297
      d f(...)[0] / d args[0][0] is 0.540302, expected 1.38177

    Random u and v are drawn, and J v and J^T u compared with unbatched products of ``torch.autograd.grad``. A wrong
    entry escapes with probability zero, unless it is smaller than ``tolerance`` times what is in its row and column.
    If they differ, the worst rows and columns are computed exactly, and causes are tried: transposed, a factor missing
    or flipped, outputs or inputs detached, summed over an axis, in another order, outside a sparse pattern.

    Parameters
    ----------
    args: the arguments of f, a tuple; a bare tensor is the only one.
    J: in any form. One (m, n) matrix over all ravelled outputs and inputs, or blocks nested like those of
        ``torch.func.jacrev``; a matrix or block is a tensor of any layout, a NumPy array, a SciPy sparse matrix or
        ``LinearOperator``, a ``SparseMatrix`` or a ``JacobianOperator``.
    argnums: which arguments are differentiated; a number, or a tuple of them.
    tolerance: relative; 10 times the square root of the precision by default (1e-7 in float64, 3e-3 in float32).
    raises: False to get the report of a wrong Jacobian instead of an error.

    Raises
    ------
    DerivativeMismatchError: J is wrong; its ``report`` is the JacobianReport.
    InputError: J has another shape or nesting than it can have, or f cannot be differentiated.
    """
    args = args if isinstance(args, tuple) else (args,)
    with torch.no_grad():
        check = _Check(JacobianOperator(f, *args, argnums=argnums), tolerance)
        report = check.run(check.read(J))
    if raises and not report:
        error = DerivativeMismatchError(
            "\n  ".join([f"J is wrong in {report.rows} rows and {report.columns} columns", *map(str, report.entries)]),
            expected="the products of torch.autograd.grad",
            why=report.cause or "no single cause that is known explains all of it",
            instead="check_jacobian(..., raises=False) for the report",
        )
        error.report = report  # type: ignore[attr-defined]  # only this error has one
        raise error
    return report


class _Check:
    def __init__(self, true: JacobianOperator, tolerance: float | None) -> None:
        self.true, self.function, self.given = true, true.function, tolerance
        like = torch.empty(0, dtype=true.dtype, device=true.device)
        self.u, self.v = random_numbers(true.shape[0], like), random_numbers(true.shape[1], like, seed=1)
        self.tolerance, self.off = 0.0, np.inf

    def read(self, J: Any) -> Claim:
        try:
            claim = read_claim(J, self.function)
        except ShapeMismatch as wrong:
            raise self._shape_error(wrong) from None
        eps = max(claim.eps, torch.finfo(self.true.dtype).eps, *(torch.finfo(t.dtype).eps for t in self._leaves()))
        self.tolerance = 10 * eps**0.5 if self.given is None else self.given
        return claim

    def run(self, claim: Claim) -> JacobianReport:
        u, v = _numbers(self.u), _numbers(self.v)
        got = claim.times(v), claim.transposed_times(u)
        back = _numbers(self.u @ self.true)
        try:
            true, one_way = (_numbers(self.true @ self.v), back), False
        except InputError:  # PyTorch has J^T u only, in which every wrong entry shows as well
            true, one_way = (got[0], back), True
        scales = [self._scale(claim, g, t, side) for side, g, t in zip((0, 1), got, true, strict=True)]
        errors = [_error(g, t, s) for g, t, s in zip(got, true, scales, strict=True)]
        wrong = [e > self.tolerance for e in errors]
        for side in (0, 1):
            if wrong[side].any():
                wrong[side] &= ~(np.abs(got[side] - true[side]) <= self._uneven(side))
        largest = max((float(e.max()) for e in errors if e.size), default=0.0)
        if not any(w.any() for w in wrong):
            return JacobianReport(True, claim.shape, largest)
        self.off = max(float(np.nan_to_num(np.abs(g - t)).max(initial=0.0)) for g, t in zip(got, true, strict=True))
        lines = [_worst(e, w) for e, w in zip(errors, wrong, strict=True)]
        if one_way:
            lines = [[self._wrong_row(claim, lines[1][0])], []]
        rows = {i: (claim.row(i), _numbers(self.true.rows(i))) for i in lines[0]}
        columns = {j: (claim.column(j), _numbers(self.true.columns(j))) for j in lines[1]}
        entries = self._entries(rows, columns)
        where = [(entry.row, entry.column) for entry in entries]
        leaves = self.function.outputs, self.function.inputs
        seen = Evidence(claim, *leaves, u, v, got, true, rows, columns, where, self._same, self._transposed_times)
        cause = "" if one_way else likely_cause(seen)
        counts = int(wrong[0].sum()) or len(rows), int(wrong[1].sum()) or len(columns)
        return JacobianReport(False, claim.shape, largest, *counts, entries[:_SHOWN], cause)

    def _wrong_row(self, claim: Claim, j: int) -> int:
        """A row that is wrong in column j, by halving."""
        low, high = 0, claim.shape[0]
        while high - low > 1:
            middle = (low + high) // 2
            some = torch.zeros_like(self.u)
            some[low:middle] = self.u[low:middle]
            got, true = claim.transposed_times(_numbers(some))[j], _numbers(some @ self.true)[j]
            size = claim.transposed_times(np.abs(_numbers(some)), absolute=True)[j] if claim.explicit else abs(got)
            low, high = (low, middle) if not abs(got - true) <= self.tolerance * (size + abs(true)) else (middle, high)
        return low

    def _transposed_times(self, w: Numbers) -> Numbers:
        return _numbers(torch.from_numpy(w).to(self.u.device, self.u.dtype) @ self.true)

    def _leaves(self) -> list[Any]:
        return [*self.function.inputs, *self.function.outputs]

    def _scale(self, claim: Claim, got: Numbers, true: Numbers, side: int) -> Numbers:
        """The size of what each number is a sum of."""
        if claim.explicit:
            v, u = np.abs(_numbers(self.v)), np.abs(_numbers(self.u))
            parts = claim.transposed_times(u, absolute=True) if side else claim.times(v, absolute=True)
            scale: Numbers = np.abs(true) + parts
            return scale
        whole: Numbers = np.abs(true) + np.abs(got) + np.abs(true).max(initial=0.0)
        return whole

    def _uneven(self, side: int) -> Numbers:
        """How far products are from linear: nothing, but for functions that compute in a lower precision."""
        x = self.u if side else self.v
        w = random_numbers(x.numel(), x, seed=5)
        images = [_numbers(t @ self.true if side else self.true @ t) for t in (x, w, x + w)]
        off: Numbers = 100 * np.abs(images[0] + images[1] - images[2])
        return off

    def _same(self, a: Numbers, b: Numbers) -> bool:
        """Up to rounding, and far closer than what was claimed is to what is true."""
        size = float(max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)))
        return bool((np.abs(a - b) <= min(self.tolerance * size, 1e-3 * self.off)).all())

    def _entries(self, rows: Any, columns: Any) -> tuple[WrongEntry, ...]:
        """The worst entries of wrong rows and columns, most first."""
        found: dict[tuple[int, int], tuple[float, float]] = {}
        for i, (got, true) in rows.items():
            found |= {(i, int(j)): (float(got[j]), float(true[j])) for j in self._wrong(got, true)}
        for j, (got, true) in columns.items():
            found |= {(int(i), j): (float(got[i]), float(true[i])) for i in self._wrong(got, true)}
        order = sorted(found, key=lambda at: -np.nan_to_num(abs(found[at][0] - found[at][1]), nan=np.inf))
        outputs, inputs = self.function.outputs, self.function.inputs
        return tuple(WrongEntry(place(outputs, i), place(inputs, j), i, j, *found[i, j]) for i, j in order)

    def _wrong(self, got: Numbers, true: Numbers) -> Any:
        size = max(float(np.abs(true).max(initial=0.0)), np.finfo(float).tiny)
        off = np.abs(got - true) > self.tolerance * np.minimum(np.abs(true) + 1e-3 * size, size)
        off |= np.isfinite(true) & ~np.isfinite(got)
        return np.argsort(-np.where(off, np.nan_to_num(np.abs(got - true), nan=np.inf), -1))[: min(_LINES, off.sum())]

    def _shape_error(self, wrong: ShapeMismatch) -> InputError:
        shapes = " or ".join(map(str, wrong.expected))
        return InputError(
            f"the block of {wrong.out.path} by {wrong.leaf.path} has shape {tuple(wrong.matrix.shape)}",
            expected=f"shape {shapes}",
            why=self._shape_cause(wrong) or "outputs come first, then inputs",
        )

    def _shape_cause(self, wrong: ShapeMismatch) -> str:
        out, leaf, shape = wrong.out, wrong.leaf, tuple(wrong.matrix.shape)
        here = _part(self.true @ self.v, out), _part(self.v, leaf)
        if shape in ((leaf.numel, out.numel), (*leaf.shape, *out.shape)) and leaf.numel == self.true.shape[1]:
            self.tolerance = 10 * torch.finfo(self.true.dtype).eps ** 0.5
            matrix = as_numpy(wrong.matrix, (leaf.numel, out.numel))
            right = self._same(matrix.T @ here[1], here[0])
            return "it is transposed" + (": J.T is right" if right else "")
        full = (*out.shape, *leaf.shape)
        for axis, size in enumerate(full):
            if shape == full[:axis] + full[axis + 1 :]:
                side, at = ("output", axis) if axis < len(out.shape) else ("input", axis - len(out.shape))
                return (
                    f"axis {at} of the {side}, of size {size}, is missing: a batch that was summed over, or of which "
                    "only the diagonal is kept?"
                )
        return ""


def _part(vector: torch.Tensor, leaf: Any) -> Numbers:
    return _numbers(vector)[leaf.start : leaf.stop]


def _numbers(t: torch.Tensor) -> Numbers:
    out: Numbers = t.detach().cpu().double().numpy()
    return out


def _error(got: Numbers, true: Numbers, scale: Numbers) -> Numbers:
    """Relative; none where the truth is not finite, and infinite where only the claim is not."""
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(got == true, 0.0, np.abs(got - true) / scale)
    error = np.where(np.isfinite(true) & ~np.isfinite(got), np.inf, error)
    out: Numbers = np.where(np.isfinite(true), error, 0.0)
    return out


def _worst(errors: Numbers, wrong: Any) -> list[int]:
    order = np.argsort(-np.where(wrong, errors, -1), kind="stable")[: min(_LINES, int(wrong.sum()))]
    return [int(i) for i in order]
