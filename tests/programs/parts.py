"""What the source of a random program may name beside torch: constants, layers, functions with their own backward."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn


@cache
def constant(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """The same numbers each time, none of them zero, in a tensor from outside of f."""
    count = torch.Size(shape).numel()
    return ((torch.arange(count, dtype=torch.float64) * 1.7 + 0.5).sin() + 0.03).reshape(shape).to(dtype)


def like(t: torch.Tensor) -> torch.Tensor:
    """A constant of t's shape and dtype."""
    return constant(*t.shape, dtype=t.dtype)


@cache
def _made(kind: Any, sizes: tuple[Any, ...], dtype: torch.dtype, options: tuple[tuple[str, Any], ...]) -> nn.Module:
    layer: nn.Module = kind(*sizes, **dict(options)).to(dtype).eval()
    for parameter in layer.parameters():
        parameter.data = like(parameter.data) * 0.5
        parameter.requires_grad_(False)
    return layer


def layer(kind: str, t: torch.Tensor, *sizes: Any, **options: Any) -> nn.Module:
    """A layer of ``torch.nn`` for t's dtype, always with the same parameters."""
    return _made(getattr(nn, kind), sizes, t.dtype, tuple(options.items()))


class Cube(torch.autograd.Function):
    """x^3, with a backward of its own that can be differentiated again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad

    @staticmethod
    def jvp(ctx, tangent):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * tangent


class Straight(torch.autograd.Function):
    """Rounded forward, untouched backward: autograd differs from f."""

    @staticmethod
    def forward(x):
        return x.round()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return grad


class Joined(torch.autograd.Function):
    """(a b, a + b) of the old form, with the context in forward."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b, a + b

    @staticmethod
    def backward(ctx, product, total):
        a, b = ctx.saved_tensors
        return product * b + total, product * a + total


cube, straight, joined = Cube.apply, Straight.apply, Joined.apply
