"""Memory read or written by strides, as autograd writes the reverse of slices: rewritten as slices.

``y[1:-1, ::2] = ...`` comes back as ``as_strided_scatter(g, ..., size, stride, offset)``. The memory is
seen as a grid of the tensor's own shape, or of one that the strides suggest, and the strides as a slice of it. Where
they fit no such grid, an index says where every element comes from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from ...._base.words import OpResult
from ...._tangent.call import Call
from .registry import rewrite


@rewrite("as_strided")
def as_strided(call: Call) -> OpResult:
    """Read the elements at ``offset + sum(i_k stride_k)`` of the memory of self."""
    memory = _Memory.of(call)
    if memory is None:
        return NotImplemented
    for grid in memory.grids():
        found = _Slices.of(memory, grid)
        if found is not None:
            view = _reshaped(found.read(_reshaped(memory.dense, grid)), memory.size)
            return torch.ops.aten.alias(view) if view is call["self"] else view  # a view is a tensor of its own
    return (
        memory.dense.reshape(-1)
        .index_select(0, memory.places().reshape(-1).to(memory.dense.device))
        .reshape(memory.size)
    )


@rewrite("as_strided_scatter")
def as_strided_scatter(call: Call) -> OpResult:
    """Write ``src`` over the elements of self that ``as_strided`` reads."""
    memory, source = _Memory.of(call), call["src"]
    if memory is None:
        return NotImplemented
    for grid in memory.grids():
        found = _Slices.of(memory, grid)
        if found is not None:
            whole = memory.whole(found.write(_reshaped(memory.dense, grid), source))
            return whole.clone() if whole is source else whole
    places = memory.places().reshape(-1)
    if places.unique().numel() < places.numel():
        return NotImplemented  # of two writes to one place, which one stays is not said
    count = memory.dense.numel()
    index = torch.arange(count).index_copy(0, places, torch.arange(count, count + places.numel()))
    both = torch.cat([memory.dense.reshape(-1), source.reshape(-1)])
    return memory.whole(both.index_select(0, index.to(both.device)))


@dataclass(frozen=True)
class _Memory:
    """A tensor as it lies in memory, ``dense``, and the part that is read: ``size``, ``stride`` and ``offset``."""

    dense: torch.Tensor
    order: tuple[int, ...]  # the dimensions as they lie in memory
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, call: Call) -> _Memory | None:
        """Return the memory of a call; None where the tensor has holes, or ends before the part that is read."""
        t, size, stride = call["self"], tuple(call["size"]), tuple(call["stride"])
        order = tuple(sorted(range(t.dim()), key=lambda d: (-t.stride(d), d)))
        dense = _permuted(t, order)
        offset = 0 if call["storage_offset"] is None else call["storage_offset"] - t.storage_offset()
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if not dense.is_contiguous() or not 0 <= offset <= last < t.numel() or 0 in size:
            return None
        return cls(dense, order, size, stride, offset)

    def whole(self, memory: torch.Tensor) -> torch.Tensor:
        """Return the tensor whose elements lie in memory as those of ``memory``."""
        return _permuted(_reshaped(memory, self.dense.shape), _back(self.order))

    def places(self) -> torch.Tensor:
        """Return the place in memory of each element that is read, of shape ``size``."""
        place = torch.tensor(self.offset)
        for n, s in zip(self.size, self.stride, strict=True):
            place = place[..., None] + torch.arange(n) * s
        return place

    def grids(self) -> Iterator[tuple[int, ...]]:
        """Yield shapes that the memory could have."""
        yield tuple(self.dense.shape)
        units = [self.dense.numel()]
        for s in sorted(set(self.stride), reverse=True):
            if 1 <= s < units[-1] and units[-1] % s == 0:
                units.append(s)
        yield (*(a // b for a, b in pairwise(units)), units[-1])


@dataclass(frozen=True)
class _Slices:
    """Slices of a grid: ``cuts``, (first, last + 1, step) in each dimension, then ``order``, of the dimensions read."""

    cuts: tuple[tuple[int, int, int], ...]
    order: tuple[int, ...]

    @classmethod
    def of(cls, memory: _Memory, grid: Sequence[int]) -> _Slices | None:
        """Return the slices of ``grid`` that hold the part that is read; None where there are none."""
        units = [math.prod(grid[d + 1 :]) for d in range(len(grid))]
        first = [memory.offset // unit % length for unit, length in zip(units, grid, strict=True)]
        cuts = [(at, at + 1, 1) for at in first]
        used: list[int] = []
        for n, s in zip(memory.size, memory.stride, strict=True):
            if n == 1:
                continue
            fit = [
                d
                for d, unit in enumerate(units)
                if d not in used and s > 0 and s % unit == 0 and first[d] + s // unit * (n - 1) < grid[d]
            ]
            if not fit:
                return None
            d = max(fit, key=units.__getitem__)
            used.append(d)
            cuts[d] = (first[d], first[d] + s // units[d] * (n - 1) + 1, s // units[d])
        return cls(tuple(cuts), (*used, *(d for d in range(len(grid)) if d not in used)))

    def read(self, grid: torch.Tensor) -> torch.Tensor:
        for d, (first, end, step) in enumerate(self.cuts):
            if (first, end, step) != (0, grid.shape[d], 1):
                grid = torch.ops.aten.slice(grid, d, first, end, step)
        return _permuted(grid, self.order)

    def write(self, grid: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        lengths = [len(range(*self.cuts[d])) for d in self.order]
        return self._written(grid, _permuted(_reshaped(source, lengths), _back(self.order)), 0)

    def _written(self, grid: torch.Tensor, source: torch.Tensor, d: int) -> torch.Tensor:
        """Return ``grid`` with ``source`` in place of the part that is read, from dimension d on."""
        if d == grid.dim():
            return source
        first, end, step = self.cuts[d]
        if (first, end, step) == (0, grid.shape[d], 1):
            return self._written(grid, source, d + 1)
        inner = torch.ops.aten.slice(grid, d, first, end, step)
        return torch.slice_scatter(grid, self._written(inner, source, d + 1), d, first, end, step)


# Most calls of these change nothing, while an op would cost a move of every slot.


def _reshaped(t: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    return t if list(t.shape) == list(shape) else t.reshape(shape)


def _permuted(t: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    return t if list(order) == list(range(t.dim())) else t.permute(tuple(order))


def _back(order: Sequence[int]) -> list[int]:
    """Return the permutation that undoes ``order``."""
    return sorted(range(len(order)), key=order.__getitem__)
