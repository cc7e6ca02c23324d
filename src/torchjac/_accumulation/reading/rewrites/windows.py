"""Sums over the places under a window, as a sum of moved pieces of the operand.

A piece has, for each of some outputs, one place that it reads. Outputs and places that run in even steps are slices,
which move everything regularly; others are picked by an index. Before/after, a sum over 2 with stride 2, of 4 numbers:
``x[0::2] + x[1::2]``; a cumulative sum of 3: ``[x0, x0, x0] + [0, x1, x1] + [0, 0, x2]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ...._base.words import OpResult
from ...._tangent.relations import Along, Window
from .registry import LARGEST, SHORT


@dataclass(frozen=True)
class Piece:
    """Output ``out[k]`` reads ``places[k]``; outputs in order, each once."""

    out: torch.Tensor
    places: torch.Tensor

    @classmethod
    def of_positions(cls, positions: torch.Tensor) -> Piece:
        """Return the piece of the place that each output reads, -1 for none."""
        (out,) = (positions >= 0).nonzero(as_tuple=True)
        return cls(out, positions[out])

    def transposed(self) -> Piece:
        """Return the pairs with outputs and places exchanged: only where no two outputs read one place."""
        order = torch.argsort(self.places)
        return Piece(self.places[order], self.out[order])


Then = Callable[[torch.Tensor, Piece], torch.Tensor]


def as_window(along: Along | None, out_len: int, in_len: int) -> Window:
    """Return any way of mixing along a dimension as a Window; None mixes all of it."""
    if isinstance(along, Window):
        return along
    out, place = torch.arange(out_len)[:, None], torch.arange(in_len)[None, :]
    reads = {"prefix": place <= out, "suffix": place >= out, "same": place == out}
    out, place = reads.get(along or "all", torch.ones(out_len, in_len, dtype=torch.bool)).nonzero(as_tuple=True)
    return Window.of_pairs(out, place, out_len)


def pieces(window: Window) -> list[Piece]:
    """Return the pieces of a window: as many as its widest output has places, or up to twice that as slices."""
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
    """Return the elements of x at ``places`` along ``dim``, in that order."""
    first, step = _progression(places)
    if step is None or step < 0:
        return x.index_select(dim, places.to(x.device))
    if step == 0:
        return x.narrow(dim, first, 1).expand(*(places.numel() if d == dim else s for d, s in enumerate(x.shape)))
    cut: torch.Tensor = torch.ops.aten.slice(x, dim, first, int(places[-1]) + 1, step)
    return cut


def put(x: torch.Tensor, dim: int, out: torch.Tensor, size: int) -> torch.Tensor:
    """Put x at the places ``out`` of a dimension of length ``size``, zeros elsewhere."""
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
) -> OpResult:
    """Return out[o] = sum over the places p under ``window`` of ``weight[o, p]`` x[p], along ``dim``.

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
    """Return the sums of all pairs, which are first laid side by side: for long windows."""
    pairs = Piece(window.out, window.places)
    side_by_side = then(_weighted(x.index_select(dim, pairs.places.to(x.device)), dim, pairs, weight), pairs)
    size = window.starts.numel() - 1
    sums: torch.Tensor = side_by_side.new_zeros([size if d == dim else s for d, s in enumerate(x.shape)])
    return sums.index_add(dim, pairs.out.to(x.device), side_by_side)


def added(terms: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum, by halves: sums with many slots then take part in few additions."""
    if len(terms) == 1:
        return terms[0]
    half = len(terms) // 2
    return added(terms[:half]) + added(terms[half:])


def along(t: torch.Tensor, dim: int, like: torch.Tensor) -> torch.Tensor:
    """Return a vector, shaped to multiply ``like`` along ``dim``."""
    return t.to(like.device).reshape([-1 if d == dim else 1 for d in range(like.dim())])


def number_or_tensor(t: torch.Tensor, like: torch.Tensor) -> OpResult:
    """Return a constant to multiply ``like`` with: a number where all numbers of t are equal."""
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
    """Return (first, step) of evenly spaced numbers, step 1 for a single one; a step of None for others."""
    steps = t.diff()
    if steps.numel() == 0:
        return int(t[0]), 1
    return int(t[0]), int(steps[0]) if bool((steps == steps[0]).all()) else None
