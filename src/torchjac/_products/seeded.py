"""One direction of products with its seeds: the piece that strategies are made of, and a measure of what it costs."""

from __future__ import annotations

import numpy as np
import torch

from .._base.memory import peak_bytes
from .._base.words import Args, Colors, Direction
from .._function.flat import FlatFunction
from .chunk import chunk_size
from .cost import UnitCost, seconds_of
from .forward import Forward
from .reverse import Reverse
from .run import Run
from .seeds import KeptSeeds, Seeds, WeightedSeeds
from .ways import Products

_KEPT = 2**18  # so many numbers in seeds are kept from call to call


class Side:
    """All ``count`` products of one direction, their seeds given by ``colors``.

    ``ran``: a run of f whose reverse products need not run it again. ``trial``: it is only to be measured, and what
    PyTorch refuses is not announced.
    """

    def __init__(
        self,
        function: FlatFunction,
        direction: Direction,
        colors: Colors,
        count: int,
        across: bool = False,
        ran: Run | None = None,
        trial: bool = False,
    ) -> None:
        self.function, self.direction, self.count = function, direction, count
        self.width = function.m if direction == "forward" else function.n
        self.numbers = function.m + function.n  # of one seed and one product
        self.itemsize = function.dtype.itemsize
        keep = count * colors.size <= _KEPT
        seeds = Seeds(colors, function.dtype, function.device)
        self._seeds = KeptSeeds(seeds, count) if keep and count else seeds
        self.products = Products(
            function, direction, chunk_size(count, self.numbers, self.itemsize), across, ran, quiet=trial
        )

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
        products, seeds = self.products, self._seeds
        if (
            not products.random
            and isinstance(seeds, KeptSeeds)
            and self.count <= products.chunk
            and seeds.all._version == seeds.version
            and products.ran is None
            and not products.across
            and torch._C._functorch.peek_interpreter_stack() is None
        ):
            found = self._at_once(args, seeds.all)
            if found is not None:
                return found
        return products.compressed(args, seeds, self.count)

    def _at_once(self, args: Args, seeds: torch.Tensor) -> torch.Tensor | None:
        """Return all products, in one batch by the way that worked last; None where it does not work any more."""
        way = self.products.way
        if way is None or not way.batched:
            return None
        try:
            if way.direction == "forward":
                return Forward(self.function, args, random=False).batch(seeds)
            return Reverse(self.function, args, plain=way.plain).batch(seeds)
        except RuntimeError:  # what it is, and what else there is to do, is known where ways are tried one by one
            return None

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


def batch_cost(
    function: FlatFunction, direction: Direction, count: int, args: Args, colors: Colors | None = None
) -> UnitCost:
    """Measure at ``args`` what a batch of ``count`` products costs; without ``colors``, seeds are made up."""
    if colors is None:
        size = function.n if direction == "forward" else function.m
        colors = np.arange(size, dtype=np.int32) % max(count, 1)
    return Side(function, direction, colors, count, trial=True).unit_cost(args)
