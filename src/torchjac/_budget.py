"""How much memory a call may add, and how many products at once that allows: measured, not guessed."""

from __future__ import annotations

from typing import Any

from ._errors import OptionError
from ._function import FlatFunction
from ._memory import available, text_bytes
from ._products import fit
from ._side import Side, Strategy

_SHARE = 4  # without a budget, one part in so many of what is free
_SMALL = 4 * 2**20  # bytes of seeds and products that are not worth a measurement


def fit_chunks(strategy: Strategy, function: FlatFunction, args: tuple[Any, ...], memory: int | None) -> None:
    """Set how many products run at once, so that a call adds at most ``memory`` bytes to its result.

    Raises
    ------
    OptionError: not even one product fits; it names the least that works.
    """
    for side in strategy.sides:
        if memory is None and side.count * side.numbers * side.itemsize < _SMALL:
            continue
        room = available(function.device) // _SHARE if memory is None else memory
        cached = function.device.type == "cpu"
        chunk = fit(lambda size: side.peak(args, size), side.count, room, beside=strategy.beside, cached=cached)  # noqa: B023  # called before the loop goes on
        if chunk == 0 and memory is not None:
            raise _too_small(side, args, memory, strategy.beside)
        side.products.chunk = max(chunk, 1)


def _too_small(side: Side, args: tuple[Any, ...], memory: int, beside: int) -> OptionError:
    product, kept = side.peak(args, 1), beside if side.count > 1 else 0
    least = text_bytes(product + kept)
    parts = f"{text_bytes(product)} for f and one product" + (f", {text_bytes(kept)} for all of them" if kept else "")
    other = "forward" if side.direction == "reverse" else "reverse"
    return OptionError(
        f"memory={text_bytes(memory)!r} is too small for this Jacobian by {side.direction} mode",
        expected=f"at least {least}",
        why=f"it takes {parts}",
        instead=f"memory={least!r}, or mode={other!r}, which may take less",
    )
