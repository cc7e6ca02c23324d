"""The check of a Jacobian that somebody computed: whether it is right, and if not, where and why."""

from __future__ import annotations

import torch

from .._base.errors import DerivativeMismatchError
from .._base.words import UserFunction
from .._function.flat import Argnums
from .._operators.jacobian import JacobianOperator
from .comparison import Comparison
from .report import JacobianReport, WrongEntry

__all__ = ["JacobianReport", "WrongEntry", "check_jacobian"]


def check_jacobian(
    f: UserFunction,
    args: object,
    J: object,
    argnums: Argnums = 0,
    *,
    tolerance: float | None = None,
    raises: bool = True,
) -> JacobianReport:
    """Tell whether ``J`` is the Jacobian of ``f`` at ``args``, by two products of plain autograd; more if it is wrong.

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
        comparison = Comparison(JacobianOperator(f, *args, argnums=argnums), tolerance)
        report = comparison.run(comparison.read(J))
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
