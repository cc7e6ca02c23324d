"""Average pooling, interpolation and cumulative sums: sums over windows; backward, over transposed windows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch

from ...._base.words import OpResult
from ...._tangent.call import Call
from ...._tangent.relations import Window
from ...._tangent.rules.pooling import (
    UPSAMPLE,
    adaptive_windows,
    interpolation_weights,
    pool_windows,
    replicated,
    spatial_dims,
    window_of_weights,
)
from .registry import REWRITES, rewrite
from .windows import as_window, number_or_tensor, windowed


@rewrite("cumsum")
def cumsum(call: Call) -> OpResult:
    """Sum, for each place, the places up to it."""
    x, dtype = call["self"], call["dtype"]
    x = x if dtype is None else x.to(dtype)
    if x.dim() == 0:
        return x.clone()
    length = x.shape[call["dim"]]
    return windowed(x, call["dim"], as_window("prefix", length, length))


def _sums(x: torch.Tensor, windows: Sequence[Window], weights: Sequence[torch.Tensor | None]) -> OpResult:
    """Sum over a window along each of the last dimensions of x."""
    for k, (window, weight) in enumerate(zip(windows, weights, strict=True)):
        x = windowed(x, k - len(windows), window, weight)
        if x is NotImplemented:
            return x
    return x


def _unweighted(x: torch.Tensor, windows: Sequence[Window]) -> OpResult:
    return _sums(x, windows, [None] * len(windows))


def _counts(windows: Sequence[Window]) -> torch.Tensor:
    """Return the number of places under each output."""
    counts = [window.starts.diff().double() for window in windows]
    return reduce(lambda a, b: a[..., None] * b, counts)


def _register_pools(k: int) -> None:
    """Register the ``k``-dimensional average pools, forward and backward."""
    op = getattr(torch.ops.aten, f"avg_pool{k}d").default

    def of_ones(call: Call, inputs: Sequence[int]) -> torch.Tensor:
        """Apply the op to ones: (*out) numbers of places under each output, each divided by its divisor."""
        rest = [call[a.name] for a in op._schema.arguments[1:]]
        means: torch.Tensor = op(torch.ones(1, *inputs, dtype=torch.float64), *rest)
        return means[0]

    def average(call: Call) -> OpResult:
        x = call["self"]
        means = of_ones(call, x.shape[-k:])
        windows = pool_windows(call, x.shape[-k:], means.shape)
        return _scaled(_unweighted(x, windows), means / _counts(windows))

    def average_backward(call: Call) -> OpResult:
        grad, inputs = call["grad_output"], call["self"].shape[-k:]
        windows = pool_windows(call, inputs, grad.shape[-k:])
        return _back(_scaled(grad, of_ones(call, inputs) / _counts(windows)), windows, inputs)

    def adaptive(call: Call) -> OpResult:
        x = call["self"]
        windows = adaptive_windows(x.shape[-k:], list(call["output_size"]))
        return _scaled(_unweighted(x, windows), 1 / _counts(windows))

    def adaptive_backward(call: Call) -> OpResult:
        grad, inputs = call["grad_output"], call["self"].shape[-k:]
        windows = adaptive_windows(inputs, grad.shape[-k:])
        return _back(_scaled(grad, 1 / _counts(windows)), windows, inputs)

    REWRITES[f"avg_pool{k}d"], REWRITES[f"avg_pool{k}d_backward"] = average, average_backward
    REWRITES[f"_adaptive_avg_pool{k}d"], REWRITES[f"_adaptive_avg_pool{k}d_backward"] = adaptive, adaptive_backward


def _scaled(x: OpResult, scale: torch.Tensor) -> OpResult:
    return x if x is NotImplemented else x * number_or_tensor(scale, x)


def _back(grad: torch.Tensor, windows: Sequence[Window], inputs: Sequence[int]) -> OpResult:
    return _unweighted(grad, [w.transposed(n) for w, n in zip(windows, inputs, strict=True)])


for _k in (1, 2, 3):
    _register_pools(_k)


@rewrite(*(f"replication_pad{k}d_backward" for k in (1, 2, 3)))
def replication_backward(call: Call) -> OpResult:
    """Sum, for each place, its copies."""
    inputs = call["self"].shape[-spatial_dims(call) :]
    return _back(call["grad_output"], replicated(inputs, call["padding"]), inputs)


@rewrite(*UPSAMPLE)
def upsample(call: Call) -> OpResult:
    """Interpolate along one dimension after the other."""
    x, k = call["self"], spatial_dims(call)
    outputs = list(call["output_size"])
    weights = [w.T for w in interpolation_weights(call, x.shape[-k:], outputs)]
    return _sums(x, [window_of_weights(w) for w in weights], weights)


@rewrite(*(f"{name}_backward" for name in UPSAMPLE))
def upsample_backward(call: Call) -> OpResult:
    """Interpolate by the transposed weights."""
    grad, k = call["grad_output"], spatial_dims(call)
    weights = interpolation_weights(call, list(call["input_size"])[-k:], grad.shape[-k:])
    return _sums(grad, [window_of_weights(w) for w in weights], weights)
