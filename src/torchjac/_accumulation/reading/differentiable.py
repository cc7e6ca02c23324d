"""Ops whose results autograd does not follow, or not all of them, written in ops that it does.

Below autograd they are part of tangent programs; the program of a Jacobian runs above it, and its values are to have
gradients. Derivative formulas rely on how an op factors its matrix, so that here it is factored in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..._tangent.call import Call

_aten = torch.ops.aten


def copy(call: Call) -> Any:
    """``src`` in the layout of self; what ``functionalize`` makes of ``copy_``."""
    into, source = call["self"], call["src"]
    order = sorted(range(into.dim()), key=lambda d: (-into.stride(d), d))
    back = sorted(range(into.dim()), key=order.__getitem__)
    source = source.to(into.device, into.dtype).expand(into.shape)
    return source.permute(order).clone(memory_format=torch.contiguous_format).permute(back)


def solve(call: Call) -> Any:
    """A X = B (left) or X A = B; returns X and a factorisation, which has no derivative of its own there."""
    a, b, left = call["A"], call["B"], call["left"]
    vector = b.dim() == 1 or (b.dim() == a.dim() - 1 and b.shape == a.shape[:-1])
    lu, pivots, info = _aten.linalg_lu_factor_ex(a)
    x = _aten.linalg_lu_solve(lu, pivots, b.unsqueeze(-1) if vector else b, left=left)
    return x.squeeze(-1) if vector else x, lu, pivots, info


def determinant(call: Call) -> Any:
    """The determinant (or its sign and logarithm), and a factorisation, which has no derivative of its own there.

    It is that of the transpose where A is contiguous; the derivative formulas ask the same.
    """
    a = call["A"]
    lu, pivots, _ = _aten.linalg_lu_factor_ex(a.mT if a.is_contiguous() and not a.is_complex() else a)
    return *call.out[:-2], lu, pivots


DIFFERENTIABLE: dict[str, Callable[[Call], Any]] = {
    "copy": copy,
    "_linalg_solve_ex": solve,
    "_linalg_det": determinant,
    "_linalg_slogdet": determinant,
}
