"""Pooling and interpolation: a window along each spatial dimension, batch and channels untouched.

Before/after, ``avg_pool1d`` with kernel 2: outputs [0, 1] collect the inputs [{0, 1}, {2, 3}].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..._base.memory_limit import require
from ..call import Call
from ..registry import CHOICES, RULES, rule
from ..relations import Along, Mix, Relations, Window


def windows(x: torch.Tensor, per_dim: Sequence[Window]) -> Mix:
    """Mix each of the last ``len(per_dim)`` dimensions of x through its window."""
    first = x.dim() - len(per_dim)
    along: dict[int, Along] = {first + k: window for k, window in enumerate(per_dim)}
    return Mix(x, tuple(range(x.dim())), along)


def pool_windows(call: Call, inputs: Sequence[int], outputs: Sequence[int]) -> list[Window]:
    """The inputs under each output's kernel, one Window a spatial dimension."""
    count = len(inputs)
    dilation = call["dilation"] if call.has("dilation") else [1]
    kernel, padding, spread = (_per_dim(v, count) for v in (call["kernel_size"], call["padding"], dilation))
    stride = _per_dim(call["stride"] or call["kernel_size"], count)
    found = []
    for k in range(count):
        place = (
            torch.arange(outputs[k])[:, None] * stride[k] - padding[k] + torch.arange(kernel[k])[None, :] * spread[k]
        )
        found.append(Window.of_positions(torch.where((place >= 0) & (place < inputs[k]), place, -1)))
    return found


def adaptive_windows(inputs: Sequence[int], outputs: Sequence[int]) -> list[Window]:
    """Return the windows by which output o of O collects the inputs from floor(o I / O) up to ceil((o + 1) I / O)."""
    found = []
    for i, o in zip(inputs, outputs, strict=True):
        at = torch.arange(o)
        first, last = at * i // o, -((at + 1) * i // -o)
        place = first[:, None] + torch.arange(int((last - first).max()) if o else 0)[None, :]
        found.append(Window.of_positions(torch.where(place < last[:, None], place, -1)))
    return found


def flattened(per_dim: Sequence[Window], inputs: Sequence[int]) -> Window:
    """The product of windows, as one Window over the ravelled spatial dimensions."""
    whole = per_dim[0]
    for window, size in zip(per_dim[1:], inputs[1:], strict=True):
        out_a, out_b = whole.out, window.out
        out = out_a[:, None] * (window.starts.numel() - 1) + out_b[None, :]
        place = whole.places[:, None] * size + window.places[None, :]
        outs = (whole.starts.numel() - 1) * (window.starts.numel() - 1)
        whole = Window.of_pairs(out.reshape(-1), place.reshape(-1), outs)
    return whole


def _per_dim(value: int | Sequence[int], count: int) -> list[int]:
    listed = [value] if isinstance(value, int) else list(value)
    return listed * count if len(listed) == 1 else listed


def spatial_dims(call: Call) -> int:
    """Return how many dimensions the op pools, by its name."""
    return next(k for k in (1, 2, 3) if f"{k}d" in call.op._schema.name)


def _register_pools(k: int) -> None:
    """Register the rules of the ``k``-dimensional pools, forward and backward."""

    def average(call: Call) -> Relations:
        x = call["self"]
        return [windows(x, pool_windows(call, x.shape[-k:], call.out.shape[-k:]))]

    def average_backward(call: Call) -> Relations:
        grad, x = call["grad_output"], call["self"]
        forward = pool_windows(call, x.shape[-k:], grad.shape[-k:])
        return [windows(grad, [w.transposed(n) for w, n in zip(forward, x.shape[-k:], strict=True)])]

    def adaptive(call: Call) -> Relations:
        x = call["self"]
        return [windows(x, adaptive_windows(x.shape[-k:], call.out.shape[-k:]))]

    def adaptive_backward(call: Call) -> Relations:
        grad, x = call["grad_output"], call["self"]
        forward = adaptive_windows(x.shape[-k:], grad.shape[-k:])
        return [windows(grad, [w.transposed(n) for w, n in zip(forward, x.shape[-k:], strict=True)])]

    def choice(call: Call) -> Along:
        inputs, outputs = call["self"].shape[-k:], call.out[1].shape[-k:]
        return flattened(pool_windows(call, inputs, outputs), inputs)

    def adaptive_choice(call: Call) -> Along:
        inputs, outputs = call["self"].shape[-k:], call.out[1].shape[-k:]
        return flattened(adaptive_windows(inputs, outputs), inputs)

    RULES[f"avg_pool{k}d"], RULES[f"avg_pool{k}d_backward"] = average, average_backward
    RULES[f"max_pool{k}d_with_indices_backward"] = average_backward
    RULES[f"_adaptive_avg_pool{k}d"], RULES[f"_adaptive_avg_pool{k}d_backward"] = adaptive, adaptive_backward
    RULES[f"adaptive_max_pool{k}d_backward"] = adaptive_backward
    CHOICES[f"max_pool{k}d_with_indices"], CHOICES[f"adaptive_max_pool{k}d"] = choice, adaptive_choice


for _k in (1, 2, 3):
    _register_pools(_k)


_KINDS = (
    "nearest1d _nearest_exact1d linear1d nearest2d _nearest_exact2d bilinear2d _bilinear2d_aa bicubic2d _bicubic2d_aa "
    "nearest3d _nearest_exact3d trilinear3d"
)
UPSAMPLE = [f"_upsample{n}" if n.startswith("_") else f"upsample_{n}" for n in _KINDS.split()]


@rule(*UPSAMPLE)
def upsample(call: Call) -> Relations:
    """Interpolate with fixed weights; a weight that is exactly zero is no dependence."""
    x, k = call["self"], spatial_dims(call)
    return [windows(x, interpolation_windows(call, x.shape[-k:], call.out.shape[-k:]))]


@rule(*(f"{name}_backward" for name in UPSAMPLE))
def upsample_backward(call: Call) -> Relations:
    """Interpolate by the transposed weights."""
    grad, k = call["grad_output"], spatial_dims(call)
    inputs = list(call["input_size"])[-k:]
    forward = interpolation_windows(call, inputs, grad.shape[-k:])
    return [windows(grad, [w.transposed(n) for w, n in zip(forward, inputs, strict=True)])]


def window_of_weights(weights: torch.Tensor) -> Window:
    """Return the nonzeros of an (out, in) matrix as a Window."""
    out, place = weights.nonzero(as_tuple=True)
    return Window.of_pairs(out, place, weights.shape[0])


def interpolation_windows(call: Call, inputs: Sequence[int], outputs: Sequence[int]) -> list[Window]:
    """The inputs that each output reads along each dimension, from the op itself.

    It is given unit vectors, many in one: a unit at every ``step``-th place, further apart than an output can reach.
    """
    if "_aa" in call.op._schema.name:  # an output reaches as far as the image is larger
        return [window_of_weights(w.T) for w in interpolation_weights(call, inputs, outputs)]
    found = []
    for k, (i, o) in enumerate(zip(inputs, outputs, strict=True)):
        step = min(i, 8 * max(1, -(-i // max(o, 1))) + 8)
        units = (torch.arange(i)[None, :] % step == torch.arange(step)[:, None]).double()
        first, out = _interpolated(call, units, k, outputs).nonzero(as_tuple=True)
        centre = (out + 0.5) * (i / max(o, 1)) - 0.5
        place = first + step * ((centre - first) / step).round().long()
        place = torch.where(place < 0, place + step, torch.where(place >= i, place - step, place))
        found.append(Window.of_pairs(out, place, o))
    return found


def interpolation_weights(call: Call, inputs: Sequence[int], outputs: Sequence[int]) -> list[torch.Tensor]:
    """(in, out) weights along each dimension, from the op itself on unit vectors."""
    for i, o in zip(inputs, outputs, strict=True):
        require(8 * i * (i + o), f"the {i} x {o} weights of an interpolation", instead="smaller images")
    eyes = [torch.eye(i, dtype=torch.float64) for i in inputs]
    return [_interpolated(call, eye, k, outputs) for k, eye in enumerate(eyes)]


def _interpolated(call: Call, rows: torch.Tensor, k: int, outputs: Sequence[int]) -> torch.Tensor:
    """Each of ``rows`` (r, in) interpolated as dimension k is, (r, out)."""
    name = call.op._schema.name.split("::")[1].removesuffix("_backward")
    op, count = getattr(torch.ops.aten, name), len(outputs)
    corners = [call["align_corners"]] if call.has("align_corners") else []
    # two pixels wide: one pixel wide, an antialiased image is read at other rows than it should be
    shape, size = ([*[2] * k, length, *[2] * (count - k - 1)] for length in (rows.shape[1], outputs[k]))
    images = rows.reshape(-1, *[1] * k, rows.shape[1], *[1] * (count - k - 1)).expand(-1, *shape)
    given: list[float | None] = [None] * count
    given[k] = _scales(call, count)[k]
    out: torch.Tensor = op(images[:, None].contiguous(), size, *corners, *given)
    return out[:, 0].movedim(1 + k, -1).flatten(1, -2)[:, 0] if count > 1 else out[:, 0]


def _scales(call: Call, count: int) -> list[float | None]:
    if call.has("scale_factors"):
        return list(call["scale_factors"] or [None] * count)
    names = ["scales"] if count == 1 and call.has("scales") else ["scales_d", "scales_h", "scales_w"][3 - count :]
    return [call[name] if call.has(name) else None for name in names]


def replicated(inputs: Sequence[int], padding: Sequence[int]) -> list[Window]:
    """Return the place that each padded place copies, by dimension; ``padding`` has the last dimension first."""
    found = []
    for k, size in enumerate(inputs):
        before, after = padding[2 * (len(inputs) - 1 - k) :][:2]
        place = torch.arange(-before, size + after).clamp(0, size - 1)
        found.append(Window.of_positions(place[:, None]))
    return found


@rule(*(f"replication_pad{k}d_backward" for k in (1, 2, 3)))
def replication_backward(call: Call) -> Relations:
    """Each place collects its copies."""
    inputs = call["self"].shape[-spatial_dims(call) :]
    forward = replicated(inputs, call["padding"])
    return [windows(call["grad_output"], [w.transposed(n) for w, n in zip(forward, inputs, strict=True)])]
