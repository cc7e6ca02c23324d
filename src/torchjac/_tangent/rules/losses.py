"""Backward kernels that PyTorch has no forward formula for, and gated units."""

from __future__ import annotations

import torch

from ..call import Call
from ..registry import rule
from ..relations import Mix, Relations, Window


@rule("glu_jvp")
def glu_jvp(call: Call) -> Relations:
    """Out = (first half of dx) * sigmoid + (second half of dx) * ...: both halves, place by place."""
    dx = call["dx"]
    dim = call["dim"] % dx.dim()
    view = (*dx.shape[:dim], 2, dx.shape[dim] // 2, *dx.shape[dim + 1 :])
    return [Mix(dx, tuple(d for d in range(len(view)) if d != dim), {}, view)]


@rule("glu_backward")
def glu_backward(call: Call) -> Relations:
    """Pass the gradient to both halves of the input, place by place."""
    grad, x = call["grad_output"], call["self"]
    dim = call["dim"] % x.dim()
    out_view = (*x.shape[:dim], 2, x.shape[dim] // 2, *x.shape[dim + 1 :])
    return [Mix(grad, (*range(dim), None, *range(dim, grad.dim())), {}, None, out_view)]


@rule("_cdist_backward")
def cdist_backward(call: Call) -> Relations:
    """Grad (..., P, R) -> (..., P, M): point p collects its distances to all R others."""
    grad = _given(call)
    return [Mix(grad, (*range(grad.dim() - 1), None))]


@rule("_pdist_backward")
def pdist_backward(call: Call) -> Relations:
    """Grad (n (n - 1) / 2,) -> (n, M): point i collects the pairs it is in."""
    grad, n = _given(call), call["self"].shape[0]
    first, second = torch.triu_indices(n, n, 1)
    pair = torch.arange(first.numel())
    window = Window.of_pairs(torch.cat([first, second]), torch.cat([pair, pair]), n)
    return [Mix(grad, (0, None), {0: window})]


def _given(call: Call) -> torch.Tensor:
    """The gradient of the output, under the name that this PyTorch has for it."""
    grad: torch.Tensor = call["grad_output" if call.has("grad_output") else "grad"]  # "grad" in torch 2.13
    return grad


@rule("multi_margin_loss_backward", "multilabel_margin_loss_backward")
def margin_loss_backward(call: Call) -> Relations:
    """Grad () or (N,) -> (N, C) or (C,)."""
    grad = call["grad_output"]
    return [Mix(grad, (*range(grad.dim()), *[None] * (call["self"].dim() - grad.dim())))]


@rule("_segment_reduce_backward")
def segment_reduce_backward(call: Call) -> Relations:
    """Pass to each element the gradient of its segment, along ``axis``."""
    grad, data, axis = call["grad"], call["data"], call["axis"]
    lengths, offsets = call["lengths"], call["offsets"]
    if grad.dim() != data.dim() or axis != 0 or (lengths if lengths is not None else offsets).dim() != 1:
        return [Mix(grad, (None,) * data.dim())]
    counts = lengths.cpu() if lengths is not None else offsets.cpu().diff()
    segment = torch.repeat_interleave(torch.arange(counts.numel()), counts)
    place = torch.arange(segment.numel())
    return [Mix(grad, tuple(range(grad.dim())), {0: Window.of_pairs(place, segment, data.shape[0])})]


@rule("_embedding_bag_backward", "_embedding_bag_dense_backward")
def embedding_bag_backward(call: Call) -> Relations:
    """Grad (bags, width) -> (rows, width): a row collects the bags that hold it."""
    grad, indices = call["grad"], call["indices"]
    if call.marked(indices):
        return [Mix(grad, (None, 1))]
    rows, kept = indices.cpu().long(), indices.cpu() != call["padding_idx"]
    bags = _bags(call, grad.shape[0])
    return [Mix(grad, (0, 1), {0: Window.of_pairs(rows[kept], bags[kept], call["num_weights"])})]


@rule("_embedding_bag_per_sample_weights_backward")
def bag_weights_backward(call: Call) -> Relations:
    """Grad (bags, width) -> (indices,): a weight collects all of its bag."""
    grad = call["grad"]
    bags = _bags(call, grad.shape[0])
    return [Mix(grad, (0,), {0: Window.of_pairs(torch.arange(bags.numel()), bags, bags.numel())})]


def _bags(call: Call, count: int) -> torch.Tensor:
    """The bag of every index."""
    indices, offsets = call["indices"], call["offsets"].cpu().long()
    bounds = torch.cat([offsets[:count], torch.tensor([indices.numel()])])
    return torch.repeat_interleave(torch.arange(count), bounds.diff())
