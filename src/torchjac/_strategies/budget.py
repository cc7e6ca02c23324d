"""The number of products that run at once, so that a call stays within a memory budget: measured, not guessed."""

from __future__ import annotations

from collections.abc import Sequence

from .._base.errors import OptionError
from .._base.memory import available, text_bytes
from .._base.words import Args
from .._function.flat import FlatFunction
from .._products.chunk import fit
from .strategy import Strategy

_SHARE = 4  # without a budget, this part of the free memory: 1/4
_SMALL = 4 * 2**20  # bytes of seeds and products that are not worth a measurement
_SMALL_ONCE = 64 * 2**20  # the same for products that run a single time


class TooSmallError(OptionError):
    """The error for a memory budget in which not one product fits; ``least`` bytes would suffice."""

    least: int


def fit_chunks(
    strategy: Strategy,
    function: FlatFunction,
    args: Args,
    memory: int | None,
    check: int = 0,
    once: bool = False,
) -> None:
    """Set how many products run at once, so that a call takes at most ``memory`` bytes besides its result.

    Products of two directions run one after another: the results of the first are kept while the second run.
    ``check``: bytes that the comparison after the products takes. ``once``: the products run a single time.

    Raises
    ------
    TooSmallError: not even one product fits, or not the check; it names the least that works.
    """
    before, small = 0, _SMALL_ONCE if once else _SMALL
    for side in strategy.sides:
        kept = strategy.kept(side)
        if memory is not None or side.count * side.numbers * side.itemsize >= small:
            room = available(function.device) // _SHARE if memory is None else memory
            cached = function.device.type == "cpu"
            chunk = fit(lambda size: side.peak(args, size), side.count, room - before, beside=kept, cached=cached)  # noqa: B023  # called before the loop goes on
            if chunk == 0 and memory is not None:
                raise _too_small(strategy, args, memory, check)
            side.products.chunk = max(chunk, 1)
        before += kept
    if memory is not None and max(strategy.joined, check) > memory:
        raise _too_small(strategy, args, memory, check)


def _too_small(strategy: Strategy, args: Args, memory: int, check: int) -> TooSmallError:
    needs, before = [(strategy.joined, "to join products of both directions"), (check, _CHECK)], 0
    for side in strategy.sides:
        product, kept = side.peak(args, 1), strategy.kept(side)
        beside = before + (kept if side.count > 1 else 0)
        words = f"{text_bytes(product)} for f and one product"
        needs.append((product + beside, words + (f", {text_bytes(beside)} for all of them" if beside else "")))
        before += kept
    size, words = max(needs)
    error = TooSmallError(
        f"memory={text_bytes(memory)!r} is too small for this Jacobian by {strategy.mode} mode",
        expected=f"at least {text_bytes(size)}",
        why=f"it takes {words}",
        instead=f"memory={text_bytes(size)!r}, or {'check=False' if words is _CHECK else _other_mode(strategy)}",
    )
    error.least = size
    return error


_CHECK = "f and one product of plain autograd to check the first call"


def _other_mode(strategy: Strategy) -> str:
    other = "forward" if strategy.mode == "reverse" else "reverse"
    return f"mode={other!r}, which may take less"


def least_of(errors: Sequence[TooSmallError]) -> TooSmallError:
    """The error to raise where none of several modes fits: the error of the mode that takes least."""
    best = min(errors, key=lambda error: error.least)
    least = text_bytes(best.least)
    error = TooSmallError(
        f"{best.got}, and by every other",
        expected=best.expected,
        why=best.why,
        instead=f"memory={least!r}" + (", or check=False" if _CHECK in best.why else ""),
    )
    error.least = best.least
    return error
