"""The search of ``order="auto"``: it takes offers, keeps the best colors, and knows when to stop.

It stops at the lower bound. Without a time limit it spends a budget that is counted, not timed, so that the same
pattern gets the same colors on every machine: each offer says about how many nanoseconds it takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..._base.words import Colors

Make = Callable[[float], Colors | None]
"""A function from a cost to colors that cost less, or None."""


def count(colors: Colors) -> int:
    """The number of colors."""
    return int(colors.max(initial=-1)) + 1


@dataclass
class Search:
    """The best colors so far and what they cost.

    Attributes
    ----------
    bound: the least that any coloring can cost.
    limit: what has to be beaten.
    budget: nanoseconds to spend, counted; the first offer is always taken.
    seconds: a time limit instead of the budget.
    """

    bound: float
    limit: float = np.inf
    budget: float = np.inf
    seconds: float | None = None
    price: Callable[[Colors], float] = count
    colors: Colors | None = None
    name: str = ""
    sources: tuple[str, ...] = ()
    spent: float = 0.0
    started: float = field(default_factory=lambda: time.perf_counter())

    @property
    def done(self) -> bool:
        """Whether no better coloring exists, or the time is over."""
        return self.limit <= self.bound or (self.left == 0.0 and self.colors is not None)

    @property
    def left(self) -> float | None:
        """The seconds left; None without a time limit."""
        return None if self.seconds is None else max(self.seconds - (time.perf_counter() - self.started), 0.0)

    def affords(self, work: float) -> bool:
        """Whether ``work`` more is within the budget."""
        return self.seconds is not None or self.spent == 0 or self.spent + work <= self.budget

    def offer(self, name: str, work: float, make: Make, *sources: str) -> bool:
        """Take the colors that ``make`` returns if they are better and there is time; return whether they were."""
        if self.done or not self.affords(work):
            return False
        self.spent += work
        return self.take(name, make(self.limit), *sources)

    def take(self, name: str, colors: Colors | None, *sources: str) -> bool:
        """Take ``colors`` if they are better; return whether they were."""
        if colors is None or self.price(colors) >= self.limit:
            return False
        self.colors, self.name, self.sources, self.limit = colors, name, sources, self.price(colors)
        return True
