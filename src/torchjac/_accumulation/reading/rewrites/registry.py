"""Where ops are registered that the reader reads as other, simpler ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...._tangent.call import Call

Rewriting = Callable[[Call], Any]
"""From a call to what it returns, by ops that the reader knows; NotImplemented where it has no such form."""

SIMPLER: dict[str, Rewriting] = {}

LARGEST = 2**26  # numbers in a product before it is summed
SHORT = 64  # places that are written one by one


def simpler(*names: str) -> Callable[[Rewriting], Rewriting]:
    """Register a function as how the op families ``names`` are read."""

    def register(function: Rewriting) -> Rewriting:
        for name in names:
            assert name not in SIMPLER, f"{name} is written in two ways"
            SIMPLER[name] = function
        return function

    return register
