"""Ops with results that autograd does not differentiate, written in ops that it does.

They are part of tangent programs, which run below autograd; the program of a Jacobian runs above it, and its values
must have gradients. Derivative formulas rely on how an op factors its matrix: here it is factored in the same way.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..._base.words import OpResult
from ..._tangent.call import Call

_aten = torch.ops.aten


def copy(call: Call) -> OpResult:
    """Return ``src`` in the layout of self; ``functionalize`` makes this op of ``copy_``."""
    into, source = call["self"], call["src"]
    order = sorted(range(into.dim()), key=lambda d: (-into.stride(d), d))
    back = sorted(range(into.dim()), key=order.__getitem__)
    source = source.to(into.device, into.dtype).expand(into.shape)
    return source.permute(order).clone(memory_format=torch.contiguous_format).permute(back)


def solve(call: Call) -> OpResult:
    """Solve A X = B (left) or X A = B; return X and a factorisation, which the op itself does not differentiate."""
    a, b, left = call["A"], call["B"], call["left"]
    vector = b.dim() == 1 or (b.dim() == a.dim() - 1 and b.shape == a.shape[:-1])
    lu, pivots, info = _aten.linalg_lu_factor_ex(a)
    x = _aten.linalg_lu_solve(lu, pivots, b.unsqueeze(-1) if vector else b, left=left)
    return x.squeeze(-1) if vector else x, lu, pivots, info


def determinant(call: Call) -> OpResult:
    """Return the determinant (or sign and logarithm) and a factorisation, which the op itself does not differentiate.

    The transpose is factored where A is contiguous, as the derivative formulas expect.
    """
    a = call["A"]
    lu, pivots, _ = _aten.linalg_lu_factor_ex(a.mT if a.is_contiguous() and not a.is_complex() else a)
    return *call.out[:-2], lu, pivots


DIFFERENTIABLE: dict[str, Callable[[Call], OpResult]] = {
    "copy": copy,
    "_linalg_solve_ex": solve,
    "_linalg_det": determinant,
    "_linalg_slogdet": determinant,
}
