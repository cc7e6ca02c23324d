"""The ways to run products, best first: where PyTorch refuses one, the next one runs.

Plain autograd runs f as it is and has the least overhead. Batched products need a vmap rule of every op, and inside a
transform of ``torch.func`` there is no plain autograd. The first way that works is remembered, and what was refused is
said once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .._base.errors import InputError, OptionError, first_line, not_differentiable
from .._base.random_state import RandomState
from .._base.user_frame import warn
from .._base.words import Args, Direction
from .._function.flat import FlatFunction
from .chunk import in_chunks, out_of_memory
from .forward import Forward
from .reverse import Reverse
from .run import Run, inside_transform
from .seeds import Seeds


@dataclass(frozen=True)
class Way:
    """A way to run products: by ``plain`` autograd or torch.func, ``batched`` or one after another."""

    direction: Direction
    batched: bool = True
    plain: bool = False

    def __str__(self) -> str:
        kind = "JVPs" if self.direction == "forward" else "VJPs"
        engine = "autograd" if self.plain else "torch.func"
        return f"{kind} by {engine}, {'batched' if self.batched else 'one at a time'}"


WAYS: dict[Direction, tuple[Way, ...]] = {
    "forward": (Way("forward"), Way("forward", batched=False)),
    "reverse": (
        Way("reverse", plain=True),
        Way("reverse"),
        Way("reverse", batched=False),
        Way("reverse", batched=False, plain=True),
    ),
}


class Products:
    """All products of one direction for a function: (colors, m) forward, (colors, n) reverse.

    ``chunk`` of them run at once; ``across`` if the transpose of what they give should be contiguous. ``ran``: a run of
    f that need not be made again. ``quiet``: a way that PyTorch refuses is not announced, because this is a trial.
    ``random``: whether f drew random numbers when it ran last; assumed until it ran.
    """

    def __init__(
        self,
        function: FlatFunction,
        direction: Direction,
        chunk: int,
        across: bool = False,
        ran: Run | None = None,
        quiet: bool = False,
    ) -> None:
        self.function, self.direction, self.chunk, self.across = function, direction, chunk, across
        self.way: Way | None = None
        self.ran, self.quiet, self.random = ran, quiet, True
        self._ways = list(WAYS[direction])

    def one_at_a_time(self) -> None:
        """Prefer plain products one after another: where each is large, to batch them only takes memory."""
        self._ways.sort(key=lambda way: (way.batched, not way.plain))

    def never_batched(self) -> None:
        """Run one product after another, by plain autograd where that is possible: batches are wrong somewhere."""
        self._ways = sorted((way for way in self._ways if not way.batched), key=lambda way: not way.plain)
        self.way = None

    def reject(self) -> bool:
        """Never again run products as they ran last, because the results were wrong; False if there is no other way."""
        others = [way for way in self._ways if way != self.way]
        if others:
            self._ways, self.way = others, None
        return bool(others)

    def compressed(self, args: Args, seeds: Seeds, colors: int) -> torch.Tensor:
        """Return the product with every seed, stacked; by the way that worked last, else by the first that works."""
        draws, first, last = RandomState(self.function.device), None, None
        inside = inside_transform()
        for way in sorted(self._ways, key=lambda way: (inside and way.plain, way != self.way)):  # the last that worked
            try:
                out = self._run(way, args, seeds, colors)
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                first, last = first or error, error
                draws.replay()
                continue
            if first is not None and not self.quiet:
                warn(f"products run as {way}, because PyTorch said: {first_line(first)}")
            self.way, self.random = way, draws.moved()
            return out
        assert last is not None  # there is at least one way
        draws.replay()
        self.function.look(args)  # errors of f itself are raised as they are
        raise self._refusal(last) from last

    def _refusal(self, error: RuntimeError) -> OptionError | InputError:
        if self.direction == "forward":
            return OptionError(
                "mode='forward' for a function without forward derivatives",
                expected="a function of ops that PyTorch can differentiate forward",
                why=first_line(error),
                instead="mode='auto' or mode='reverse'",
            )
        return not_differentiable(error)

    def _run(self, way: Way, args: Args, seeds: Seeds, colors: int) -> torch.Tensor:
        product = self._at(way, args)
        batch: Callable[[torch.Tensor], torch.Tensor] = product.batch if way.batched else _one_by_one(product.one)
        out, self.chunk = in_chunks(
            lambda start, stop: batch(seeds.chunk(start, stop)), colors, self.chunk, self.across
        )
        return out

    def _at(self, way: Way, args: Args) -> Forward | Reverse:
        if way.direction == "forward":
            return Forward(self.function, args)
        ran = self.ran.again(args) if self.ran is not None and way.plain else None
        return ran or Reverse(self.function, args, plain=way.plain)


def _one_by_one(one: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda seeds: torch.stack([one(seed) for seed in seeds])
