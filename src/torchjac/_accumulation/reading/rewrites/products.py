"""Products of matrices, means and the backward of softmax: products and sums."""

from __future__ import annotations

import math

import torch

from ...._base.words import OpResult
from ...._tangent.call import Call
from .registry import LARGEST, rewrite


def contract(a: torch.Tensor, b: torch.Tensor) -> OpResult:
    """Multiply (..., i, k) @ (..., k, j); NotImplemented where that takes too many numbers."""
    if math.prod(a.shape) * b.shape[-1] > LARGEST:
        return NotImplemented
    if a.shape[-1] == 1:
        return a * b
    return (a.unsqueeze(-1) * b.unsqueeze(-3)).sum(-2)


@rewrite("mm", "bmm")
def mm(call: Call) -> OpResult:
    """(i, k) @ (k, j), also batched."""
    return contract(call["self"], call["mat2"])


@rewrite("mv")
def mv(call: Call) -> OpResult:
    """(i, k) @ (k,)."""
    return (call["self"] * call["vec"]).sum(-1)


@rewrite("dot", "vdot")
def dot(call: Call) -> OpResult:
    """(k,) . (k,)."""
    return (call.args[0] * call.args[1]).sum()


def _added(call: Call, product: OpResult) -> OpResult:
    if product is NotImplemented:
        return product
    alpha, beta = call["alpha"], call["beta"]
    product = product if alpha == 1 else product * alpha
    if beta == 0:
        return product
    return product + (call["self"] if beta == 1 else call["self"] * beta)


@rewrite("addmm")
def addmm(call: Call) -> OpResult:
    """Beta * self + alpha * mat1 @ mat2."""
    return _added(call, contract(call["mat1"], call["mat2"]))


@rewrite("baddbmm")
def baddbmm(call: Call) -> OpResult:
    """Beta * self + alpha * batch1 @ batch2."""
    return _added(call, contract(call["batch1"], call["batch2"]))


@rewrite("addmv")
def addmv(call: Call) -> OpResult:
    """Beta * self + alpha * mat @ vec."""
    return _added(call, (call["mat"] * call["vec"]).sum(-1))


@rewrite("mean")
def mean(call: Call) -> OpResult:
    """Divide a sum by the number of its terms."""
    x = call["self"]
    dims = call["dim"] if call.has("dim") else None
    listed = [dims] if isinstance(dims, int) else list(dims) if dims else list(range(x.dim()))
    count = math.prod(x.shape[d] for d in listed) if x.dim() else 1
    return x.sum(listed, keepdim=bool(call["keepdim"]) if call.has("keepdim") else False) / count


@rewrite("gelu_backward")
def gelu_backward(call: Call) -> OpResult:
    """G times the derivative: the kernel (of oneDNN, in float32) takes no coefficient of another shape."""
    g, x = call["grad_output"], call["self"]
    if call.depends(x):
        return NotImplemented
    return g * call.op(torch.ones_like(x), x, approximate=call["approximate"])


@rewrite("_softmax_backward_data")
def softmax_backward(call: Call) -> OpResult:
    """(g - sum(g y)) y."""
    g, y, dim = call["grad_output"], call["output"], call["dim"]
    return g * y - y * (g * y).sum(dim, keepdim=True)


@rewrite("_log_softmax_backward_data")
def log_softmax_backward(call: Call) -> OpResult:
    """G - exp(y) sum(g)."""
    g, y, dim = call["grad_output"], call["output"], call["dim"]
    return g - y.exp() * g.sum(dim, keepdim=True)
