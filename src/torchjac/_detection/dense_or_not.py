"""Find the pattern of a dense Jacobian that is wanted once, unless detection costs more than it can save.

A few VJPs are cheaper than any detection, and so are many that cost little but PyTorch's overhead. If some computed
rows have no zero, the others will have few: to follow every op would cost more than zeros save. And after an all-to-all
layer nothing more is followed: as many numbers depend on every input as half of the products that a dense Jacobian
takes, so that no coloring would save much.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .._base.errors import REFUSALS, MemoryLimitError
from .._base.words import Args
from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._tangent.relations import Ids
from .detect import detect
from .index_sets import IndexSets
from .set_table import Ints

_FEW = 32  # VJPs that share the overhead of each operation, in one batch
_TINY, _SMALL = 50_000, 300_000  # numbers in all VJPs, on which it takes less to run an op than to follow it
_MANY = 3  # outputs for each input, from which on JVPs may cost much less
_ROWS = 2  # rows that are computed and searched for zeros

VJPs = Callable[[torch.Tensor], torch.Tensor]


def pattern_or_full(function: FlatFunction, args: Args, vjps: VJPs | None = None) -> SparsityPattern:
    """Return the pattern of f, or the full one where detection costs too much; f ran before.

    Neither lacks an entry. ``vjps``: the map U -> U J, (k, m) -> (k, n), if it is known already.
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
    """Whether m VJPs, of m outputs and n inputs, cost less than detection."""
    return m <= _FEW or m * (m + n) <= (_TINY if m > _MANY * n else _SMALL)


def _seems_full(vjps: VJPs, m: int, function: FlatFunction) -> bool:
    """Whether a few computed rows have no zeros; a row of zeros only, as behind a dead unit, does not count."""
    seeds = torch.zeros(_ROWS, m, dtype=function.dtype, device=function.device)
    seeds.view(-1)[torch.arange(_ROWS) * (m + m // _ROWS) + m // (2 * _ROWS)] = 1
    try:
        nonzero = vjps(seeds) != 0
    except REFUSALS:  # there are other ways to compute products, where these are refused
        return False
    counts = nonzero.sum(1)
    return bool(((counts == 0) | (counts == function.n)).all() & counts.any())


class _FullError(BaseException):
    """Raised to end a trace early: no error, and no Exception, which f might catch."""


class _UntilFull(IndexSets):
    """Index sets that are followed until ``enough`` numbers in one tensor depend on all n inputs."""

    def __init__(self, n: int, enough: int) -> None:
        super().__init__(n)
        self._enough, self._looked_at, self._some = enough, n + 1, False
        self.full = False

    def tidy(self, live: Callable[[], list[Ids]]) -> None:
        """End the trace if some tensor has enough full sets."""
        super().tidy(live)
        fresh = np.arange(min(self._looked_at, self.table.size), self.table.size)
        self._looked_at = self.table.size
        self._some |= self._full_among(fresh) > 0
        if self._some and any(self._full_among(ids.reshape(-1).numpy()) >= self._enough for ids in live()):
            self.full = True
            raise _FullError

    def _full_among(self, ids: Ints) -> int:
        return int((self.table.lengths(ids) == self.table.n).sum())
