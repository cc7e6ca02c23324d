"""For a dense Jacobian that is wanted once: the pattern, unless looking for it costs more than it can save.

A few VJPs are cheaper than any look, and so are many that are so small that PyTorch's overhead is what they cost. Where
some rows, computed, have no zero, the others will have few: to follow every op would cost more. And once an all-to-all
layer was seen, the rest is not followed: as many numbers depend on every input as half of the products that a dense
Jacobian takes, so that no coloring would save much.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .._base.errors import MemoryLimitError
from .._base.words import Args
from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._tangent.relations import Ids
from .detect import detect
from .index_sets import IndexSets
from .set_table import Ints

_FEW = 32  # VJPs: in a batch so many share what an operation costs
_TINY, _SMALL = 50_000, 300_000  # numbers in all VJPs: to follow an op takes longer than to run it on so many
_MANY = 3  # times more outputs than inputs: there JVPs may cost much less
_ROWS = 2  # are computed

VJPs = Callable[[torch.Tensor], torch.Tensor]


def glance(function: FlatFunction, args: Args, vjps: VJPs | None = None) -> SparsityPattern:
    """The pattern of f, which ran before, or the full one: never less than the truth.

    ``vjps``: U -> U J, (k, m) -> (k, n), where that is known already.
    """
    m, n = function.m, function.n
    if is_cheap(m, n) or (vjps is not None and _seems_full(vjps, m, function)):
        return SparsityPattern.full((m, n))
    sets = _UntilFull(n, max(1, min(m, n) // 2))
    try:
        pattern = detect(function, args, sets)
    except (_FullError, MemoryLimitError):  # a pattern that has no room saves no products
        return SparsityPattern.full((m, n))
    return SparsityPattern.full((m, n)) if sets.full else pattern


def is_cheap(m: int, n: int) -> bool:
    """Whether m VJPs of m outputs and n inputs cost less than to find out how few would do."""
    return m <= _FEW or m * (m + n) <= (_TINY if m > _MANY * n else _SMALL)


def _seems_full(vjps: VJPs, m: int, function: FlatFunction) -> bool:
    """Whether rows here and there have no zeros; one of nothing else, as behind a dead unit, does not count."""
    seeds = torch.zeros(_ROWS, m, dtype=function.dtype, device=function.device)
    seeds.view(-1)[torch.arange(_ROWS) * (m + m // _ROWS) + m // (2 * _ROWS)] = 1
    try:
        nonzero = vjps(seeds) != 0
    except RuntimeError:  # there are other ways to compute products, where these are refused
        return False
    counts = nonzero.sum(1)
    return bool(((counts == 0) | (counts == function.n)).all() & counts.any())


class _FullError(BaseException):
    """Nothing went wrong: a trace ends early, through whatever f catches."""


class _UntilFull(IndexSets):
    """Index sets that are followed until ``enough`` numbers in one tensor have all indices."""

    def __init__(self, n: int, enough: int) -> None:
        super().__init__(n)
        self._enough, self._looked_at, self._some = enough, n + 1, False
        self.full = False

    def tidy(self, live: Callable[[], list[Ids]]) -> None:
        """Look whether there are full sets, and whether they are enough."""
        super().tidy(live)
        fresh = np.arange(min(self._looked_at, self.table.size), self.table.size)
        self._looked_at = self.table.size
        self._some |= self._full_among(fresh) > 0
        if self._some and any(self._full_among(ids.reshape(-1).numpy()) >= self._enough for ids in live()):
            self.full = True
            raise _FullError

    def _full_among(self, ids: Ints) -> int:
        return int((self.table.lengths(ids) == self.table.n).sum())
