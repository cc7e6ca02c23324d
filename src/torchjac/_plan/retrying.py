"""Other ways to compute the same function, for products of it that PyTorch refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .._base.errors import InputError, OptionError, TorchjacError
from .._base.user_frame import warn
from .._function.flat import FlatFunction

T = TypeVar("T")


@dataclass(frozen=True)
class Other:
    """Another way to compute a function, and what is said once it has worked."""

    function: FlatFunction
    news: str = ""


Instead = Callable[[FlatFunction, Exception], Other | None]
"""The other way to compute a function for which an error was raised; None where there is none."""


def retried(
    function: FlatFunction,
    instead: Instead,
    run: Callable[[FlatFunction], T],
    again: Callable[[], object] = lambda: None,
) -> tuple[FlatFunction, T]:
    """``run(function)``, and the function; where it raises, with another way to compute f, as long as there is one.

    ``again()`` is called before it runs once more. Where no way works, the first error is raised that says what to do.
    """
    try:
        return function, run(function)
    except (RuntimeError, InputError, OptionError) as refusal:
        error = refusal
    other = instead(function, error)
    if other is None:
        raise error
    again()
    try:
        found = retried(other.function, instead, run, again)
    except (InputError, OptionError):
        if isinstance(error, TorchjacError):
            raise error from None
        raise
    if other.news:
        warn(other.news)
    return found
