"""Ops that sum, written as products and sums of the ops that the reader knows; each linear in what depends on v."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from .._tangent.call import Call

SIMPLER: dict[str, Callable[[Call], Any]] = {}

_LARGEST = 2**26  # numbers in a product before it is summed


def _simpler(*names: str) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    def register(function: Callable[[Call], Any]) -> Callable[[Call], Any]:
        for name in names:
            SIMPLER[name] = function
        return function

    return register


def _contract(a: torch.Tensor, b: torch.Tensor) -> Any:
    """(..., i, k) @ (..., k, j)."""
    if math.prod(a.shape) * b.shape[-1] > _LARGEST:
        return NotImplemented
    if a.shape[-1] == 1:
        return a * b
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2)


@_simpler("mm", "bmm")
def mm(call: Call) -> Any:
    """(i, k) @ (k, j), also batched."""
    return _contract(call["self"], call["mat2"])


@_simpler("mv")
def mv(call: Call) -> Any:
    """(i, k) @ (k,)."""
    return (call["self"] * call["vec"]).sum(-1)


@_simpler("dot", "vdot")
def dot(call: Call) -> Any:
    """(k,) . (k,)."""
    return (call.args[0] * call.args[1]).sum()


def _added(call: Call, product: Any) -> Any:
    if product is NotImplemented:
        return product
    alpha, beta = call["alpha"], call["beta"]
    product = product if alpha == 1 else product * alpha
    if beta == 0:
        return product
    return product + (call["self"] if beta == 1 else call["self"] * beta)


@_simpler("addmm")
def addmm(call: Call) -> Any:
    """Beta * self + alpha * mat1 @ mat2."""
    return _added(call, _contract(call["mat1"], call["mat2"]))


@_simpler("baddbmm")
def baddbmm(call: Call) -> Any:
    """Beta * self + alpha * batch1 @ batch2."""
    return _added(call, _contract(call["batch1"], call["batch2"]))


@_simpler("addmv")
def addmv(call: Call) -> Any:
    """Beta * self + alpha * mat @ vec."""
    return _added(call, (call["mat"] * call["vec"]).sum(-1))


@_simpler("mean")
def mean(call: Call) -> Any:
    """A sum, divided by how many."""
    x = call["self"]
    dims = call["dim"] if call.has("dim") else None
    listed = [dims] if isinstance(dims, int) else list(dims) if dims else list(range(x.dim()))
    count = math.prod(x.shape[d] for d in listed) if x.dim() else 1
    return x.sum(listed, keepdim=bool(call["keepdim"]) if call.has("keepdim") else False) / count


@_simpler("_softmax_backward_data")
def softmax_backward(call: Call) -> Any:
    """(g - sum(g y)) y."""
    g, y, dim = call["grad_output"], call["output"], call["dim"]
    return g * y - y * (g * y).sum(dim, keepdim=True)


@_simpler("_log_softmax_backward_data")
def log_softmax_backward(call: Call) -> Any:
    """G - exp(y) sum(g)."""
    g, y, dim = call["grad_output"], call["output"], call["dim"]
    return g - y.exp() * g.sum(dim, keepdim=True)


@_simpler("convolution")
def convolution(call: Call) -> Any:
    """One term for each tap of the kernel; channels of a group summed."""
    x, weight, bias = call["input"], call["weight"], call["bias"]
    if call["transposed"] or any(call["output_padding"]) or (call.depends(weight) and any(call["padding"])):
        return NotImplemented  # padding times a weight is no entry, which products and sums do not know
    spatial, groups = x.dim() - 2, call["groups"]
    stride, padding, dilation = (
        list(call[k]) * (spatial if len(call[k]) == 1 else 1) for k in ("stride", "padding", "dilation")
    )
    padded = (
        torch.constant_pad_nd(x, [p for d in reversed(range(spatial)) for p in (padding[d], padding[d])])
        if any(padding)
        else x
    )
    kernel = weight.shape[2:]
    out = [(padded.shape[2 + d] - dilation[d] * (kernel[d] - 1) - 1) // stride[d] + 1 for d in range(spatial)]
    n, per_in, per_out = x.shape[0], x.shape[1] // groups, weight.shape[0] // groups
    total: Any = None
    for tap in torch.cartesian_prod(*[torch.arange(k) for k in kernel]).reshape(-1, spatial).tolist():
        moved = padded
        for d in range(spatial):
            first = tap[d] * dilation[d]
            moved = moved[(slice(None),) * (2 + d) + (slice(first, first + stride[d] * (out[d] - 1) + 1, stride[d]),)]
        w = weight[(slice(None), slice(None), *tap)].reshape(1, groups, per_out, per_in, *[1] * spatial)
        term = (moved.reshape(n, groups, 1, per_in, *out) * w).sum(3)
        total = term if total is None else total + term
    total = total.reshape(n, weight.shape[0], *out)
    return total if bias is None else total + bias.reshape(-1, *[1] * spatial)
