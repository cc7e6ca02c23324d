"""The registry of rewrites: ops that the reader reads as other, simpler ones."""

from __future__ import annotations

from collections.abc import Callable

from ...._base.words import OpResult
from ...._tangent.call import Call

Rewrite = Callable[[Call], OpResult]
"""Returns the result of a call by ops that the reader knows; NotImplemented where there is no such form."""

REWRITES: dict[str, Rewrite] = {}

LARGEST = 2**26  # numbers in a product, before it is summed, at most
SHORT = 64  # places that are written one by one, at most


def rewrite(*names: str) -> Callable[[Rewrite], Rewrite]:
    """Register a function as the rewrite of the op families ``names``."""

    def register(function: Rewrite) -> Rewrite:
        for name in names:
            assert name not in REWRITES, f"{name} is written in two ways"
            REWRITES[name] = function
        return function

    return register
