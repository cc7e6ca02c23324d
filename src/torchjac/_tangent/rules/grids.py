"""Sampling at the points of a grid: which places of the input each point reads.

The formula says near which places a point is; the op itself says which of those count. It samples images of units that
are further apart than a point can reach, so that each unit it finds is the one nearby.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch

from ..._base.memory_limit import require
from ..call import Call
from ..registry import rule
from ..relations import Mix, Relation, Relations, Scatter

_BICUBIC = 2
_ZEROS, _BORDER, _REFLECTION = 0, 1, 2
_TOGETHER = 8  # images of units that are sampled at once


@rule("grid_sampler_2d_backward", "grid_sampler_3d_backward")
def grid_sampler_backward(call: Call) -> tuple[Relations, ...]:
    """Grad (N, C, *out) -> input (N, C, *in); grid (N, *out, d), over all channels."""
    grad, x = call["grad_output"], call["input"]
    spatial = x.dim() - 2
    known = not call.from_x(call["grid"]) and bool(call["grid"].isfinite().all())
    to_input = _collected(call) if known else Mix(grad, (0, 1, *[None] * spatial))
    wanted: list[Relation] = [to_input, Mix(grad, (0, *range(2, 2 + spatial), None))]
    if not known:
        call.marked(call["grid"])
    made = [isinstance(t, torch.Tensor) for t in call.out]  # the gradient of the grid comes unasked
    return tuple([relation] for relation, there in zip(wanted, made, strict=True) if there)


def _collected(call: Call) -> Relation:
    """Each place of the input collects the points that read it, channel by channel."""
    grad, (n, channels, *inputs) = call["grad_output"], call["input"].shape
    places = read_places(call, inputs)  # (N, points, candidates)
    entries = channels * places.numel()
    require(16 * entries, f"{entries:,} places that a grid reads", instead="a smaller grid")
    plane = torch.arange(n * channels).reshape(n, channels, 1, 1) * torch.Size(inputs).numel()
    target = torch.where(places[:, None] >= 0, places[:, None] + plane, -1)
    points = grad.unsqueeze(-1).expand(*grad.shape, places.shape[-1])  # a view, as reshape need not be
    return Scatter(points, target.reshape(points.shape))


def read_places(call: Call, inputs: Sequence[int]) -> torch.Tensor:
    """(N, points, candidates) flat places of the input that each point reads, -1 for none."""
    grid = call["grid"].detach().cpu()
    reach = range(-2, 4) if call["interpolation_mode"] == _BICUBIC else range(-1, 3)
    near = []
    for size, coordinate in zip(inputs, grid.flatten(1, -2).flip(-1).unbind(-1), strict=True):  # x is the last one
        base = _at(coordinate.double(), size, call["align_corners"]).floor().clamp(-2 - size, 2 * size + 2).long()
        near.append(torch.stack([_padded(base + k, size, call) for k in reach], -1))
    counts = _units_read(call, grid, inputs, len(reach))
    return _joined(near, counts, inputs, len(reach))


def _at(coordinate: torch.Tensor, size: int, align_corners: bool) -> torch.Tensor:
    """Places of coordinates in [-1, 1] along a dimension."""
    return (coordinate + 1) / 2 * (size - 1) if align_corners else ((coordinate + 1) * size - 1) / 2


def _padded(place: torch.Tensor, size: int, call: Call) -> torch.Tensor:
    """The place that stands for one outside; -1 where none does."""
    if call["padding_mode"] == _ZEROS:
        return torch.where((place >= 0) & (place < size), place, -1)
    if call["padding_mode"] == _REFLECTION:
        turn = max(2 * (size - 1), 1) if call["align_corners"] else 2 * size
        place = place % turn
        place = torch.where(place >= size, turn - place - (0 if call["align_corners"] else 1), place)
    return place.clamp(0, size - 1)


def _units_read(call: Call, grid: torch.Tensor, inputs: Sequence[int], step: int) -> torch.Tensor:
    """(N, residues, points): whether a point reads places of those residues modulo ``step``."""
    op = getattr(torch.ops.aten, call.op._schema.name.split("::")[1].removesuffix("_backward"))
    axes = [torch.arange(size) % step for size in inputs]
    residues = list(product(range(step), repeat=len(inputs)))
    found = []
    for first in range(0, len(residues), _TOGETHER):
        images = torch.stack([_units(axes, r) for r in residues[first : first + _TOGETHER]]).to(grid.dtype)
        images = images.expand(grid.shape[0], *images.shape)
        sampled = op(images, grid, call["interpolation_mode"], call["padding_mode"], call["align_corners"])
        found.append(sampled.flatten(2) != 0)
    return torch.cat(found, 1)


def _units(axes: Sequence[torch.Tensor], residues: Sequence[int]) -> torch.Tensor:
    """1 at the places of these residues, 0 elsewhere."""
    image = torch.ones(())
    for axis, residue in zip(axes, residues, strict=True):
        image = image[..., None] * (axis == residue)
    return image


def _joined(near: list[torch.Tensor], read: torch.Tensor, inputs: Sequence[int], step: int) -> torch.Tensor:
    """Flat places of all combinations of nearby places, once each, that a point reads."""
    d = len(inputs)
    place = torch.zeros((), dtype=torch.int64)
    residue, there = place, torch.ones((), dtype=torch.bool)
    for k, size in enumerate(inputs):
        index = _once(near[k])
        index = index.reshape(*index.shape[:2], *[1] * k, -1, *[1] * (d - 1 - k))
        place, residue, there = place * size + index, residue * step + index % step, there & (index >= 0)
    residue = torch.where(there, residue, 0).flatten(2)
    kept = there.flatten(2) & read.movedim(1, -1).gather(2, residue)
    return torch.where(kept, place.flatten(2), -1)


def _once(near: torch.Tensor) -> torch.Tensor:
    """Return the places, each once: where padding folds, others become -1."""
    ordered = near.sort(-1).values
    again = torch.cat([torch.zeros_like(ordered[..., :1], dtype=torch.bool), ordered[..., 1:] == ordered[..., :-1]], -1)
    return torch.where(again, -1, ordered)
