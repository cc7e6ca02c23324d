"""The goal of a plan: what is to be computed, as a value that nothing changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._products.run import Run
from .._strategies.symmetric import StoredEntries
from .options import Options


@dataclass(frozen=True, eq=False)
class Goal:
    """The entries of the Jacobian of ``function`` that values are wanted for.

    stored_entries: all entries that can be nonzero, and those of them that are stored. once: the Jacobian is wanted a
    single time. run: a run of f at the arguments of the plan, where one was made already.
    """

    function: FlatFunction
    stored_entries: StoredEntries
    options: Options
    once: bool = False
    run: Run | None = None

    @property
    def whole(self) -> SparsityPattern:
        """All entries that can be nonzero."""
        return self.stored_entries.whole

    @property
    def stored(self) -> SparsityPattern:
        """The entries that have values."""
        return self.stored_entries.stored

    @property
    def delicate(self) -> frozenset[str]:
        """The ops in f that not every way of differentiating takes right at every value."""
        return self.whole.delicate

    @property
    def needs_forward(self) -> bool:
        """Whether no other products than those of forward mode give what is wanted."""
        return False

    @property
    def full(self) -> bool:
        """Whether every entry of a matrix that is not empty is stored."""
        m, n = self.stored.shape
        return 0 < m * n == self.stored.nnz

    def on(self, function: FlatFunction) -> Self:
        """Return this goal with f computed in another way."""
        return replace(self, function=function)
