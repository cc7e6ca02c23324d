"""Convolutions: dense over channels of a group, a window along each spatial dimension, the batch untouched.

Before/after, one dimension, kernel 3, padding 1: output o collects the inputs o-1, o, o+1 that exist.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..call import Call
from ..registry import rule
from ..relations import Along, Mix, Pointwise, Relation, Relations, Window


class Geometry:
    """The parameters of one convolution, and which input places each output place reads."""

    def __init__(self, call: Call, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        self.inputs, self.outputs, spatial = tuple(inputs), tuple(outputs), len(inputs)
        self.kernel = tuple(call["weight"].shape[2:])
        self.stride, self.padding, self.dilation = (
            tuple(call[name]) * (spatial if len(call[name]) == 1 else 1) for name in ("stride", "padding", "dilation")
        )
        self.transposed, self.groups = bool(call["transposed"]), int(call["groups"])

    def reads(self, k: int) -> Window:
        """The input places that each output place reads along spatial dimension k."""
        return Window.of_positions(self.positions(k))

    def positions(self, k: int) -> torch.Tensor:
        """(out_len, kernel) input places read by each output place along spatial dimension k, -1 for none."""
        out = torch.arange(self.outputs[k])[:, None]
        tap = torch.arange(self.kernel[k])[None, :] * self.dilation[k]
        if not self.transposed:
            place = out * self.stride[k] - self.padding[k] + tap
        else:
            shifted = out + self.padding[k] - tap
            place = torch.where(shifted % self.stride[k] == 0, shifted.div(self.stride[k], rounding_mode="floor"), -1)
        return torch.where((place >= 0) & (place < self.inputs[k]), place, -1)


@rule("convolution", "_convolution", "convolution_overrideable")
def convolution(call: Call) -> Relations:
    """(N, C_in, *in), (C_out, C_in / groups, *kernel), (C_out,) -> (N, C_out, *out)."""
    x, weight, bias, shape = call["input"], call["weight"], call["bias"], call.out.shape
    geometry = Geometry(call, x.shape[2:], shape[2:])
    relations: list[Relation] = []
    if call.depends(x):
        relations.append(_through_input(x, shape, geometry.groups, [geometry.reads(k) for k in range(len(shape) - 2)]))
    if call.depends(weight):
        relations.append(_from_weight(weight, shape, geometry))
    if call.depends(bias):
        relations.append(Pointwise(bias.reshape(-1, *[1] * (len(shape) - 2))))
    return relations


def _through_input(x: torch.Tensor, shape: Sequence[int], groups: int, windows: list[Window]) -> Mix:
    """Mix the channels of a group, and each spatial dimension through its window."""
    n, spatial = shape[0], len(shape) - 2
    view = (n, groups, x.shape[1] // groups, *x.shape[2:])
    out_view = (n, groups, shape[1] // groups, *shape[2:])
    along: dict[int, Along] = {3 + k: windows[k] for k in range(spatial)}
    return Mix(x, (0, 1, None, *range(3, 3 + spatial)), along, view, out_view)


def _from_weight(weight: torch.Tensor, shape: Sequence[int], geometry: Geometry) -> Mix:
    """Relate each output place to the taps of its own channel that meet an input there."""
    spatial, groups = len(shape) - 2, geometry.groups
    taps: dict[int, Along] = {}
    for k in range(spatial):
        tap = torch.arange(geometry.kernel[k])[None, :]
        taps[2 + k + geometry.transposed] = Window.of_positions(torch.where(geometry.positions(k) >= 0, tap, -1))
    if not geometry.transposed:
        return Mix(weight, (None, 0, *range(2, 2 + spatial)), taps)
    view = (groups, weight.shape[0] // groups, *weight.shape[1:])
    return Mix(
        weight, (None, 0, 2, *range(3, 3 + spatial)), taps, view, (shape[0], groups, weight.shape[1], *shape[2:])
    )


@rule("convolution_backward")
def convolution_backward(call: Call) -> tuple[Relations, ...]:
    """grad_output (N, C_out, *out) -> gradients of input, weight and bias, where asked for; linear in each operand."""
    grad, x, weight = call["grad_output"], call["input"], call["weight"]
    geometry = Geometry(call, x.shape[2:], grad.shape[2:])
    back = [geometry.reads(k).transposed(x.shape[2 + k]) for k in range(x.dim() - 2)]
    answers: list[Relations] = []
    for wanted, kind in zip(call["output_mask"], ("input", "weight", "bias"), strict=True):
        if not wanted:
            continue
        relations: list[Relation] = []
        if call.depends(grad):
            relations.append(_gradient(kind, grad, x, weight, geometry, back))
        relations += [_all_of(t) for t in (x, weight) if call.depends(t)]
        answers.append(relations)
    return tuple(answers)


def _all_of(t: torch.Tensor) -> Mix:
    return Mix(t, ())


def _gradient(
    kind: str, grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, geometry: Geometry, back: list[Window]
) -> Relation:
    if kind == "input":
        return _through_input(grad, x.shape, geometry.groups, back)
    if kind == "bias":
        return Mix(grad, (1,))
    if not geometry.transposed:
        return Mix(grad, (1, *[None] * (weight.dim() - 1)))
    view = (grad.shape[0], geometry.groups, grad.shape[1] // geometry.groups, *grad.shape[2:])
    out_view = (geometry.groups, weight.shape[0] // geometry.groups, *weight.shape[1:])
    return Mix(grad, (1, None, 2, *[None] * (weight.dim() - 2)), {}, view, out_view)
