"""One direction of products with its seeds: what a strategy is made of, and what is measured before one is chosen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from .._base.memory import peak_bytes
from .._base.words import Mode
from .._coloring.colors import Seeds
from .._coloring.equations import Colors
from .._function.flat import FlatFunction
from .chunk import chunk_size
from .ways import Direction, Products

_MUCH = 3  # times slower, and once more would not change it
_KEPT = 2**18  # so many numbers in seeds are kept from call to call

Engines = dict[Direction, Products]
"""The products of both directions, made once a plan, so that what one strategy learned the next one knows."""


def engines(function: FlatFunction) -> Engines:
    """Products of each direction, not limited in number yet."""
    return {"forward": Products(function, "forward", 1), "reverse": Products(function, "reverse", 1)}


class Strategy(Protocol):
    """A way to the values of a pattern: what a plan runs. ``sides``: the products it is made of, if any."""

    num_products: int
    sides: list[Side]

    @property
    def mode(self) -> Mode:
        """What the values are built by."""

    @property
    def products(self) -> list[Products]:
        """The products of each direction that is used."""

    @property
    def joined(self) -> int:
        """Bytes that joining the products of both directions takes."""

    def kept(self, side: Side) -> int:
        """Bytes that the products of one side are kept in while they run in chunks."""

    def values(self, args: tuple[Any, ...]) -> torch.Tensor:
        """The values of the pattern's entries at ``args``, (nnz,), row by row."""


class Side:
    """All ``count`` products of one direction, their seeds given by ``colors``."""

    def __init__(self, products: Products, colors: Colors, count: int, across: bool = False) -> None:
        function = products.function
        self.products, self.count, self.direction = products, count, products.direction
        self.width = function.m if self.direction == "forward" else function.n
        self.numbers = function.m + function.n  # of one seed and one product
        self.itemsize = function.dtype.itemsize
        keep = count * colors.size <= _KEPT
        seeds = Seeds(colors, function.dtype, function.device)
        self._seeds = _Kept(seeds, count) if keep and count else seeds
        products.chunk, products.across = chunk_size(count, self.numbers, self.itemsize), across

    @property
    def constants(self) -> list[torch.Tensor]:
        """What the seeds are made of, on the device: the color of each element, and the seeds if they are kept."""
        kept = [self._seeds._all] if isinstance(self._seeds, _Kept) else []
        return [self._seeds.on_device, *kept]

    @property
    def nbytes(self) -> int:
        """Bytes of all products, (count, width)."""
        return self.count * self.width * self.itemsize

    def run(self, args: tuple[Any, ...]) -> torch.Tensor:
        """(count, width)."""
        return self.products.compressed(args, self._seeds, self.count)

    def weighted(self, args: tuple[Any, ...], weights: torch.Tensor) -> torch.Tensor:
        """As ``run``, with each element of the seeds times its weight: (count, width)."""
        return self.products.compressed(args, _Weighted(self._seeds, weights), self.count)

    def first(self, args: tuple[Any, ...], size: int) -> torch.Tensor:
        """The first ``size`` products, at once."""
        self.products.chunk = size
        return self.products.compressed(args, self._seeds, size)

    def peak(self, args: tuple[Any, ...], size: int) -> int:
        """Bytes that ``size`` products at once hold at their peak, what f keeps for them included."""
        return peak_bytes(lambda: self.first(args, size))

    def unit_cost(self, args: tuple[Any, ...]) -> UnitCost:
        """What a batch costs, measured on one product and on a few at once."""
        self.first(args, 1)  # the first run of anything is slower
        one = seconds_of(lambda: self.first(args, 1))
        size = min(self.count, 32, max(2, int(0.1 / one)))
        if size < 2:
            return UnitCost(0.0, one)
        many = seconds_of(lambda: self.first(args, size))
        each = max((many - one) / (size - 1), many / (4 * size))  # a product in a batch is never free: noise
        return UnitCost(max(one - each, 0.0), each)


class _Kept(Seeds):
    """Seeds that are made once: where products are small, making them would be a good part of the work."""

    def __init__(self, seeds: Seeds, count: int) -> None:
        super().__init__(seeds.colors, seeds.dtype, seeds.device)
        dense = np.array_equal(seeds.colors, np.arange(count))  # the identity, which is made ten times as fast
        self._all = torch.eye(count, dtype=self.dtype, device=self.device) if dense else super().chunk(0, count)
        self._version = self._all._version

    def chunk(self, start: int, stop: int) -> torch.Tensor:
        if self._all._version != self._version:  # a backward that writes into what it is given
            return super().chunk(start, stop)
        return self._all if stop - start == len(self._all) else self._all[start:stop]


class _Weighted(Seeds):
    """Seeds with numbers in place of the ones."""

    def __init__(self, seeds: Seeds, weights: torch.Tensor) -> None:
        super().__init__(seeds.colors, seeds.dtype, seeds.device)
        self._plain, self._weights = seeds, weights

    def chunk(self, start: int, stop: int) -> torch.Tensor:
        return self._plain.chunk(start, stop) * self._weights


@dataclass(frozen=True)
class UnitCost:
    """Seconds: ``fixed`` for a batch of whatever size, and ``each`` for a product in it."""

    fixed: float
    each: float

    def of(self, count: int) -> float:
        """Seconds for ``count`` products."""
        return self.fixed + self.each * count if count else 0.0


def seconds_of(run: Any, than: float = float("inf")) -> float:
    """Seconds that ``run()`` takes: the fastest of three, of fewer where one is slow, or much slower than ``than``."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        out = run()
        if out.is_cuda:
            torch.cuda.synchronize(out.device)
        taken.append(time.perf_counter() - start)
        if sum(taken) > 0.1 or taken[-1] > _MUCH * than:
            break
    return min(taken)
