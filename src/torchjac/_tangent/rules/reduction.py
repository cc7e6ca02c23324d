"""Sums and means over dimensions, and ops that mix along one dimension: cumulative sums, softmax."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..call import Call
from ..registry import CHOICES, rule
from ..relations import Along, Mix, Relations


def reduce_over(operand: torch.Tensor, dim: int | Sequence[int] | None, keepdim: bool) -> Mix:
    """Sum over the dimensions ``dim`` (None or empty: over all), which go, or stay with length 1."""
    listed = [dim] if isinstance(dim, int) else list(dim) if dim else list(range(operand.dim()))
    gone = {d % operand.dim() for d in listed} if operand.dim() else set()
    dims = tuple(None if d in gone else d for d in range(operand.dim()) if keepdim or d not in gone)
    return Mix(operand, dims)


def mix_along(operand: torch.Tensor, dim: int, along: Along) -> Relations:
    """Mix one dimension; the shape stays the same."""
    dims = tuple(range(operand.dim()))
    return [Mix(operand, dims, {dim % operand.dim(): along} if operand.dim() else {})]


@rule("sum", "mean", "nansum", "prod", "prims::prod", "prims::sum", "logsumexp", "amax", "amin")
def reduction(call: Call) -> Relations:
    """sum(self, dim=None, keepdim=False)."""
    dim = next((call[name] for name in ("dim", "dims") if call.has(name)), None)
    keepdim = bool(call["keepdim"]) if call.has("keepdim") else False
    return [reduce_over(call["self" if call.has("self") else "inp"], dim, keepdim)]


CHOICES["cummax"] = CHOICES["cummin"] = lambda call: "prefix"


@rule("cumsum", "cumprod", "logcumsumexp")
def cumsum(call: Call) -> Relations:
    """Each place collects the places up to it."""
    return mix_along(call["self"], call["dim"], "prefix")


@rule("_softmax", "_log_softmax")
def softmax(call: Call) -> Relations:
    """Mix everything along ``dim``."""
    return mix_along(call["self"], call["dim"], "all")


@rule("_softmax_backward_data", "_log_softmax_backward_data")
def softmax_backward(call: Call) -> Relations:
    """Mix everything along ``dim``."""
    return [r for t in call.operands for r in mix_along(t, call["dim"], "all")]
