"""Dense references, by a loop of plain ``torch.autograd.grad``: no torch.func, no vmap, no pattern, no coloring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

Argnums = int | tuple[int, ...]


def selected(args: Sequence[Any], argnums: Argnums) -> list[Any]:
    return [args[a] for a in ((argnums,) if isinstance(argnums, int) else argnums)]


def dense_jacobian(
    f: Callable[..., Any], args: Sequence[Any], argnums: Argnums = 0, create_graph: bool = False
) -> torch.Tensor:
    """(m, n) over ravelled outputs and inputs, one VJP an output. With ``create_graph`` the args keep their graph."""
    args = list(args)
    inputs = []
    for a in (argnums,) if isinstance(argnums, int) else argnums:
        args[a] = pytree.tree_map(lambda t: t if create_graph else t.detach().clone().requires_grad_(), args[a])
        inputs += pytree.tree_leaves(args[a])
    copies = [pytree.tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, a) for a in args]
    outputs = pytree.tree_leaves(f(*copies))
    rows = [_row(y, inputs, create_graph) for out in outputs for y in out.reshape(-1)]
    return torch.stack(rows) if rows else outputs[0].new_zeros(0, sum(t.numel() for t in inputs))


def _row(y: torch.Tensor, inputs: list[torch.Tensor], create_graph: bool) -> torch.Tensor:
    grads: Sequence[torch.Tensor | None] = [None] * len(inputs)
    if y.requires_grad:
        grads = torch.autograd.grad(y, inputs, retain_graph=True, create_graph=create_graph, allow_unused=True)
    parts = [torch.zeros_like(t) if g is None else g for g, t in zip(grads, inputs, strict=True)]
    return torch.cat([part.reshape(-1).to(y.dtype) for part in parts])


def joined(J: Any, outputs: Any, inputs: Any) -> torch.Tensor:
    """A result of any layout and nesting, as one dense (m, n) matrix."""
    out, into = pytree.tree_leaves(outputs), pytree.tree_leaves(inputs)
    blocks = iter(pytree.tree_leaves(J))
    return torch.cat([torch.cat([densely(next(blocks)).reshape(y.numel(), x.numel()) for x in into], 1) for y in out])


def densely(matrix: torch.Tensor) -> torch.Tensor:
    return matrix if matrix.layout is torch.strided else matrix.to_dense()


def assert_close(got: torch.Tensor, expected: torch.Tensor, tolerance: float | None = None) -> None:
    """Equal up to rounding: relative to the largest number, 1e-12 in float64 and 1e-5 in float32."""
    assert got.shape == expected.shape
    exact = torch.promote_types(got.dtype, expected.dtype) is torch.float64
    tolerance = tolerance or (1e-12 if exact else 1e-5)
    scale = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance * scale, check_dtype=False)
