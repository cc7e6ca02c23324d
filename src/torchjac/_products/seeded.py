"""Seeded products: all products of one direction, of which strategies are made, and what they cost."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from .._base.memory import peak_bytes
from .._base.words import Args, Colors, Direction, Mode
from .._function.flat import FlatFunction
from .chunk import chunk_size
from .cost import UnitCost, seconds_of
from .seeds import KeptSeeds, Seeds, WeightedSeeds
from .ways import Products

_KEPT = 2**18  # so many numbers in seeds are kept from call to call

Engines = dict[Direction, Products]
"""The products of both directions, made once a plan, so that what one strategy learned the next one knows."""


def engines(function: FlatFunction) -> Engines:
    """Return the products of each direction, without seeds yet."""
    return {"forward": Products(function, "forward", 1), "reverse": Products(function, "reverse", 1)}


class Strategy(Protocol):
    """A way to the values of a pattern, which a plan runs. ``sides``: the products it is made of, if any."""

    num_products: int
    sides: list[Side]

    @property
    def mode(self) -> Mode:
        """The mode that builds the values."""

    @property
    def products(self) -> list[Products]:
        """The products of each direction that is used."""

    @property
    def joined(self) -> int:
        """Bytes that joining the products of both directions takes."""

    def kept(self, side: Side) -> int:
        """Return the bytes that hold the products of one side while they run in chunks."""

    def values(self, args: Args) -> torch.Tensor:
        """Return the values of the pattern's entries at ``args``, (nnz,), row by row."""


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
        self._seeds = KeptSeeds(seeds, count) if keep and count else seeds
        products.chunk, products.across = chunk_size(count, self.numbers, self.itemsize), across

    @property
    def constants(self) -> list[torch.Tensor]:
        """The tensors that seeds are made of: the color of each element, and the seeds if they are kept."""
        return self._seeds.constants

    @property
    def nbytes(self) -> int:
        """Bytes of all products, (count, width)."""
        return self.count * self.width * self.itemsize

    def run(self, args: Args) -> torch.Tensor:
        """Return all products, (count, width)."""
        return self.products.compressed(args, self._seeds, self.count)

    def weighted(self, args: Args, weights: torch.Tensor) -> torch.Tensor:
        """Return all products, (count, width), with each element of the seeds times its weight."""
        return self.products.compressed(args, WeightedSeeds(self._seeds, weights), self.count)

    def first(self, args: Args, size: int) -> torch.Tensor:
        """Return the first ``size`` products, run at once."""
        self.products.chunk = size
        return self.products.compressed(args, self._seeds, size)

    def peak(self, args: Args, size: int) -> int:
        """Return the bytes that ``size`` products at once hold at their peak, with what f keeps for them."""
        return peak_bytes(lambda: self.first(args, size))

    def unit_cost(self, args: Args) -> UnitCost:
        """Measure what a batch costs, by one product and by a few at once."""
        self.first(args, 1)  # the first run of anything is slower
        one = seconds_of(lambda: self.first(args, 1))
        size = min(self.count, 32, max(2, int(0.1 / one)))
        if size < 2:
            return UnitCost(0.0, one)
        many = seconds_of(lambda: self.first(args, size))
        each = max((many - one) / (size - 1), many / (4 * size))  # a product in a batch is never free: noise
        return UnitCost(max(one - each, 0.0), each)


def batch_cost(products: Products, args: Args, count: int, colors: Colors | None = None) -> UnitCost:
    """Measure at ``args`` what a batch of ``count`` products costs; without ``colors``, seeds are made up."""
    if colors is None:
        function = products.function
        size = function.n if products.direction == "forward" else function.m
        colors = np.arange(size, dtype=np.int32) % max(count, 1)
    return Side(products, colors, count).unit_cost(args)
