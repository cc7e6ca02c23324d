"""The products of one rank: a range of the products of a plan, run in chunks and within a memory budget."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from .._base.words import Args, Colors, Direction, Mode
from .._coloring.colors import Coloring, SymmetricColors
from .._function.flat import FlatFunction
from .._products.cost import UnitCost
from .._products.seeded import Side, batch_cost
from .colored import joined_bytes, sides_of
from .ranges import pieces

Parts = list[tuple[Direction, Colors, int]]


def parts_of(function: FlatFunction, coloring: Coloring | None, direction: Direction) -> Parts:
    """The products of a plan by direction: (direction, colors, number); dense products without a coloring."""
    if coloring is None:
        count = function.n if direction == "forward" else function.m
        return [(direction, np.arange(count, dtype=np.int32), count)] if count else []
    if isinstance(coloring, SymmetricColors):
        return [(direction, coloring.colors, coloring.num_colors)] if coloring.num_colors else []
    return [part for part in sides_of(coloring) if part[2]]


def measured(function: FlatFunction, parts: Parts, args: Args) -> list[UnitCost]:
    """The measured cost of the products of each direction on this rank."""
    return [batch_cost(function, way, count, args, colors) for way, colors, count in parts]


class Shard:
    """The products from ``bounds[rank]`` up to ``bounds[rank + 1]``: a strategy whose values are the products.

    ``distributed.joining`` recovers entries from them. ``dense``: the products are rows or columns of J. ``lockstep``:
    every rank runs as many products as the rank that has most, some in vain, because f itself waits for other ranks.
    """

    def __init__(
        self,
        function: FlatFunction,
        parts: Parts,
        bounds: Sequence[int],
        rank: int,
        dense: bool = False,
        lockstep: bool = False,
    ) -> None:
        self.function = function
        counts = [count for _, _, count in parts]
        ranges = [pieces(counts, a, b) for a, b in itertools.pairwise(bounds)]
        self._dtype, self._device, self._dense = function.dtype, function.device, dense
        self.mode: Mode = parts[0][0] if len(parts) == 1 else "bidirectional"
        self.sides: list[Side] = []
        self._runs: list[tuple[Side | None, slice, int]] = []
        for number, (way, colors, count) in enumerate(parts):
            start, stop = ranges[rank][number]
            most = max(piece[number][1] - piece[number][0] for piece in ranges) if lockstep else stop - start
            first = min(start, count - most)  # of what is run
            width = function.m if way == "forward" else function.n
            side = None
            if most:
                shifted = np.where((colors >= first) & (colors < first + most), colors - first, -1).astype(np.int32)
                side = Side(function, way, shifted, most, across=dense and way == "forward")
                self.sides.append(side)
            self._runs.append((side, slice(start - first, stop - first), width))
        self.num_products = bounds[rank + 1] - bounds[rank]
        self.joined = joined_bytes(self.sides)

    def kept(self, side: Side) -> int:
        """The bytes that the products of a side are kept in while they run in chunks."""
        return 0 if self._dense else side.nbytes

    def run(self, args: Args) -> list[torch.Tensor]:
        """The products of each direction, (count, width), with count 0 where this rank has nothing to do."""
        empty = torch.zeros((0, 0), dtype=self._dtype, device=self._device)
        outs = []
        for side, kept, width in self._runs:
            outs.append(empty.reshape(0, width) if side is None else side.run(args)[kept])
        return outs or [empty]

    def values(self, args: Args) -> torch.Tensor:
        """The products of this rank, flat; for callers that measure a strategy."""
        return torch.cat([out.reshape(-1) for out in self.run(args)])

    def reject(self) -> bool:
        """Reject the way in which products ran last; False where there is no other way, or nothing to run."""
        return self.num_products > 0 and any(side.products.reject() for side in self.sides)
