"""Products of matrices, means and the backward of softmax: products and sums."""

from __future__ import annotations

import math
from typing import Any

import torch

from ...._tangent.call import Call
from .registry import LARGEST, simpler


def contract(a: torch.Tensor, b: torch.Tensor) -> Any:
    """(..., i, k) @ (..., k, j)."""
    if math.prod(a.shape) * b.shape[-1] > LARGEST:
        return NotImplemented
    if a.shape[-1] == 1:
        return a * b
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2)


@simpler("mm", "bmm")
def mm(call: Call) -> Any:
    """(i, k) @ (k, j), also batched."""
    return contract(call["self"], call["mat2"])


@simpler("mv")
def mv(call: Call) -> Any:
    """(i, k) @ (k,)."""
    return (call["self"] * call["vec"]).sum(-1)


@simpler("dot", "vdot")
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


@simpler("addmm")
def addmm(call: Call) -> Any:
    """Beta * self + alpha * mat1 @ mat2."""
    return _added(call, contract(call["mat1"], call["mat2"]))


@simpler("baddbmm")
def baddbmm(call: Call) -> Any:
    """Beta * self + alpha * batch1 @ batch2."""
    return _added(call, contract(call["batch1"], call["batch2"]))


@simpler("addmv")
def addmv(call: Call) -> Any:
    """Beta * self + alpha * mat @ vec."""
    return _added(call, (call["mat"] * call["vec"]).sum(-1))


@simpler("mean")
def mean(call: Call) -> Any:
    """A sum, divided by how many."""
    x = call["self"]
    dims = call["dim"] if call.has("dim") else None
    listed = [dims] if isinstance(dims, int) else list(dims) if dims else list(range(x.dim()))
    count = math.prod(x.shape[d] for d in listed) if x.dim() else 1
    return x.sum(listed, keepdim=bool(call["keepdim"]) if call.has("keepdim") else False) / count


@simpler("gelu_backward")
def gelu_backward(call: Call) -> Any:
    """G times the derivative: the kernel (of oneDNN, in float32) takes no coefficient of another shape."""
    g, x = call["grad_output"], call["self"]
    if call.depends(x):
        return NotImplemented
    return g * call.op(torch.ones_like(x), x, approximate=call["approximate"])


@simpler("_softmax_backward_data")
def softmax_backward(call: Call) -> Any:
    """(g - sum(g y)) y."""
    g, y, dim = call["grad_output"], call["output"], call["dim"]
    return g * y - y * (g * y).sum(dim, keepdim=True)


@simpler("_log_softmax_backward_data")
def log_softmax_backward(call: Call) -> Any:
    """G - exp(y) sum(g)."""
    g, y, dim = call["grad_output"], call["output"], call["dim"]
    return g - y.exp() * g.sum(dim, keepdim=True)
