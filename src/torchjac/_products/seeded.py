"""One direction of products with its seeds: the piece that strategies are made of, and a measure of what it costs."""

from __future__ import annotations

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
        """What the seeds are made of, on the device: the color of each element, and the seeds if they are kept."""
        kept = [self._seeds.all] if isinstance(self._seeds, KeptSeeds) else []
        return [self._seeds.on_device, *kept]

    @property
    def nbytes(self) -> int:
        """Bytes of all products, (count, width)."""
        return self.count * self.width * self.itemsize

    def run(self, args: Args) -> torch.Tensor:
        """(count, width)."""
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
        """All products in one batch by the way that worked last; None where it does not any more."""
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
        """As ``run``, with each element of the seeds times its weight: (count, width)."""
        return self.products.compressed(args, WeightedSeeds(self._seeds, weights), self.count)

    def first(self, args: Args, size: int) -> torch.Tensor:
        """The first ``size`` products, at once."""
        self.products.chunk = size
        return self.products.compressed(args, self._seeds, size)

    def peak(self, args: Args, size: int) -> int:
        """Bytes that ``size`` products at once hold at their peak, what f keeps for them included."""
        return peak_bytes(lambda: self.first(args, size))

    def unit_cost(self, args: Args) -> UnitCost:
        """What a batch costs, measured on one product and on a few at once."""
        self.first(args, 1)  # the first run of anything is slower
        one = seconds_of(lambda: self.first(args, 1))
        size = min(self.count, 32, max(2, int(0.1 / one)))
        if size < 2:
            return UnitCost(0.0, one)
        many = seconds_of(lambda: self.first(args, size))
        each = max((many - one) / (size - 1), many / (4 * size))  # a product in a batch is never free: noise
        return UnitCost(max(one - each, 0.0), each)


def batch_cost(function: FlatFunction, direction: Direction, colors: Colors, count: int, args: Args) -> UnitCost:
    """What a batch of ``count`` products of one direction costs, measured at ``args`` and kept by nobody."""
    return Side(function, direction, colors, count, trial=True).unit_cost(args)
