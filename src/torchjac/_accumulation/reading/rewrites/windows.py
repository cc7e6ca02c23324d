"""Sums over the places under a window, written as moved pieces of the operand, added.

A piece has for each of some outputs one place that it reads. Outputs and places that run in even steps are slices,
which move everything regularly; others are picked by an index. Before/after, a sum over 2 with stride 2, of 4 numbers:
``x[0::2] + x[1::2]``; a cumulative sum of 3: ``[x0, x0, x0] + [0, x1, x1] + [0, 0, x2]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...._tangent.relations import Along, Window
from .registry import LARGEST, SHORT


@dataclass(frozen=True)
class Piece:
    """Output ``out[k]`` reads ``places[k]``; outputs in order, each once."""

    out: torch.Tensor
    places: torch.Tensor

    @classmethod
    def of_positions(cls, positions: torch.Tensor) -> Piece:
        """From the place that each output reads, -1 for none."""
        (out,) = (positions >= 0).nonzero(as_tuple=True)
        return cls(out, positions[out])

    def turned(self) -> Piece:
        """The same pairs, seen from the places: only where no two outputs read one."""
        order = torch.argsort(self.places)
        return Piece(self.places[order], self.out[order])


Then = Callable[[torch.Tensor, Piece], torch.Tensor]


def as_window(along: Along | None, out_len: int, in_len: int) -> Window:
    """Any way of mixing along a dimension, as a Window; None mixes all of it."""
    if isinstance(along, Window):
        return along
    out, place = torch.arange(out_len)[:, None], torch.arange(in_len)[None, :]
    reads = {"prefix": place <= out, "suffix": place >= out, "same": place == out}
    out, place = reads.get(along or "all", torch.ones(out_len, in_len, dtype=torch.bool)).nonzero(as_tuple=True)
    return Window.of_pairs(out, place, out_len)


def pieces(window: Window) -> list[Piece]:
    """As few pieces as the widest output has places, or at most twice as many where they are slices then."""
    out, places = window.out, window.places
    if out.numel() == 0:
        return []
    rank = torch.arange(out.numel()) - window.starts[out]
    slope = float(places[-1] - places[0] + 1) / float(out[-1] - out[0] + 1)
    steps = {int(slope), int(slope) + 1, 0}
    back = {int(1 / slope), int(1 / slope) + 1} - {0, 1}
    keys = [*(places - s * out for s in sorted(steps)), *(out - s * places for s in sorted(back))]
    counts = [key.unique().numel() for key in keys]
    fewest = min(range(len(keys)), key=counts.__getitem__)
    key = keys[fewest] if counts[fewest] <= 2 * (int(rank.max()) + 1) else rank
    return [Piece(out[key == k], places[key == k]) for k in key.unique()]


def taken(x: torch.Tensor, dim: int, places: torch.Tensor) -> torch.Tensor:
    """The places of x along ``dim``, in that order."""
    first, step = _progression(places)
    if step is None or step < 0:
        return x.index_select(dim, places.to(x.device))
    if step == 0:
        return x.narrow(dim, first, 1).expand(*(places.numel() if d == dim else s for d, s in enumerate(x.shape)))
    cut: torch.Tensor = torch.ops.aten.slice(x, dim, first, int(places[-1]) + 1, step)
    return cut


def put(x: torch.Tensor, dim: int, out: torch.Tensor, size: int) -> torch.Tensor:
    """Put x at the places ``out`` of a dimension of length ``size``, nothing elsewhere."""
    if out.numel() == size:
        return x
    first, step = _progression(out)
    if step is None:
        index = torch.full((size,), x.shape[dim]).index_copy(0, out, torch.arange(out.numel()))
        return _padded(x, dim, 0, 1).index_select(dim, index.to(x.device))
    if step == 1:
        return _padded(x, dim, first, size - 1 - int(out[-1]))
    shape = [size if d == dim else s for d, s in enumerate(x.shape)]
    spread: torch.Tensor = torch.ops.aten.slice_backward(x, shape, dim, first, int(out[-1]) + 1, step)
    return spread


def windowed(
    x: torch.Tensor,
    dim: int,
    window: Window,
    weight: torch.Tensor | None = None,
    then: Then = lambda term, piece: term,
) -> Any:
    """out[o] = sum over the places p under ``window`` of ``weight[o, p]`` x[p], along ``dim``.

    ``then`` may change the term of a piece, before its outputs are put where they belong.
    """
    dim, size = dim % x.dim(), window.starts.numel() - 1
    if window.places.numel() * (x.numel() // max(x.shape[dim], 1)) > LARGEST:
        return NotImplemented
    parts = pieces(window)
    if len(parts) > SHORT:
        return _summed_pairs(x, dim, window, weight, then)
    terms = [put(then(_weighted(taken(x, dim, p.places), dim, p, weight), p), dim, p.out, size) for p in parts]
    return added(terms) if terms else x.new_zeros([size if d == dim else s for d, s in enumerate(x.shape)])


def _summed_pairs(x: torch.Tensor, dim: int, window: Window, weight: torch.Tensor | None, then: Then) -> torch.Tensor:
    """All pairs side by side, then summed: for long windows."""
    pairs = Piece(window.out, window.places)
    side_by_side = then(_weighted(x.index_select(dim, pairs.places.to(x.device)), dim, pairs, weight), pairs)
    size = window.starts.numel() - 1
    sums: torch.Tensor = side_by_side.new_zeros([size if d == dim else s for d, s in enumerate(x.shape)])
    return sums.index_add(dim, pairs.out.to(x.device), side_by_side)


def added(terms: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum, by halves: what has many slots is added seldom."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return added(terms[:half]) + added(terms[half:])


def along(t: torch.Tensor, dim: int, like: torch.Tensor) -> torch.Tensor:
    """A vector, so shaped that it multiplies ``like`` along ``dim``."""
    return t.to(like.device).reshape([-1 if d == dim else 1 for d in range(like.dim())])


def number_or_tensor(t: torch.Tensor, like: torch.Tensor) -> Any:
    """A constant to multiply with: the number where all are equal."""
    first = t.reshape(-1)[:1]
    if t.numel() and bool((t == first).all()):
        return first.item()
    return t.to(like.device, torch.promote_types(like.dtype, t.dtype) if t.is_complex() else like.dtype)


def _weighted(x: torch.Tensor, dim: int, piece: Piece, weight: torch.Tensor | None) -> torch.Tensor:
    if weight is None:
        return x
    w = number_or_tensor(weight[piece.out, piece.places], x)
    return x * (along(w, dim, x) if isinstance(w, torch.Tensor) else w)


def _padded(x: torch.Tensor, dim: int, before: int, after: int) -> torch.Tensor:
    return torch.constant_pad_nd(x, [0, 0] * (x.dim() - 1 - dim) + [before, after])


def _progression(t: torch.Tensor) -> tuple[int, int | None]:
    """(first, step) where the numbers run in even steps, 1 for a single one; a step of None where they do not."""
    steps = t.diff()
    if steps.numel() == 0:
        return int(t[0]), 1
    return int(t[0]), int(steps[0]) if bool((steps == steps[0]).all()) else None
