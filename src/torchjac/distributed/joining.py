"""From the products of each rank to the values of a Jacobian: which entries are whose, and how they come together.

    products of a rank -> local (what it can say by itself) -> own entries | its block of rows | all values

Dense products are rows or columns, and need no index. Entries that are read off colored products lie where their colors
are, and a block of rows collects them from all ranks. Entries that are solved for need the products of all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from .._base.ranks import Ranks
from .._coloring.equations import Places
from .._matrices.pattern import SparsityPattern
from .._strategies.ranges import even

Sums = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Layout:
    """What all joinings know: the stored pattern, the ranges of products, and whose rows are whose."""

    pattern: SparsityPattern
    bounds: Sequence[int]
    ranks: Ranks

    @property
    def rows(self) -> list[int]:
        """Where the rows of each rank start, and the end."""
        return even(self.pattern.shape[0], self.ranks.size)

    @property
    def entries(self) -> list[int]:
        """Where the entries in the rows of each rank start, and the end."""
        m, n = self.pattern.shape
        full = self.pattern.nnz == m * n
        return [row * n if full else int(self.pattern.indptr[row]) for row in self.rows]

    @property
    def counts(self) -> list[int]:
        """How many products each rank runs."""
        return np.diff(self.bounds).tolist()

    @property
    def block(self) -> slice:
        """The entries in this rank's rows."""
        return slice(*self.entries[self.ranks.rank : self.ranks.rank + 2])

    @property
    def mine(self) -> slice:
        """The products of this rank."""
        return slice(self.bounds[self.ranks.rank], self.bounds[self.ranks.rank + 1])


class Joining(Protocol):
    """How the parts of the ranks become values, row by row."""

    def local(self, products: list[torch.Tensor]) -> torch.Tensor:
        """What this rank keeps of its products: one tensor a direction, (count, width) each."""

    def own(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries that this rank has without asking others (ascending) and their values; every entry once."""

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """The values of the entries in this rank's rows."""

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """The values of all entries, on every rank."""


class DenseRows:
    """Product k is row k."""

    def __init__(self, layout: Layout) -> None:
        self._at, self._n = layout, layout.pattern.shape[1]

    def local(self, products: list[torch.Tensor]) -> torch.Tensor:
        """(rows of this rank, n)."""
        return products[0]

    def own(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whole rows."""
        start, stop = self._at.mine.start * self._n, self._at.mine.stop * self._n
        return torch.arange(start, stop, device=local.device), local.reshape(-1)

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """Without a message where products were cut as rows are."""
        if list(self._at.bounds) == self._at.rows:
            return local.reshape(-1)
        sending, receiving = _overlaps(self._at.bounds, self._at.rows, self._at.ranks.rank)
        flat = local.reshape(-1)
        return self._at.ranks.swap(flat, [self._n * k for k in sending], [self._n * k for k in receiving])

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """One message to each other rank."""
        return _unpadded(self._at.ranks.gather(local, self._at.counts), self._at.counts).reshape(-1)


class DenseColumns:
    """Product k is column k; they are kept across, so that a block of rows of them is contiguous."""

    def __init__(self, layout: Layout) -> None:
        self._at, self._m = layout, layout.pattern.shape[0]

    def local(self, products: list[torch.Tensor]) -> torch.Tensor:
        """(m, columns of this rank)."""
        return products[0].T

    def own(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whole columns, row by row."""
        mine, n = self._at.mine, self._at.pattern.shape[1]
        rows = torch.arange(self._m, device=local.device)[:, None] * n
        return (rows + torch.arange(mine.start, mine.stop, device=local.device)).reshape(-1), local.reshape(-1)

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """From every rank its columns of these rows."""
        ranks, counts = self._at.ranks, self._at.counts
        heights = np.diff(self._at.rows).tolist()
        mine = heights[ranks.rank]
        sending, receiving = [h * counts[ranks.rank] for h in heights], [mine * k for k in counts]
        parts = ranks.swap(local.reshape(-1), sending, receiving).split(receiving)
        return torch.cat([part.reshape(mine, k) for part, k in zip(parts, counts, strict=True)], 1).reshape(-1)

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """One message to each other rank."""
        columns = self._at.ranks.gather(local.T.contiguous(), self._at.counts)
        return _unpadded(columns, self._at.counts).T.reshape(-1)


class Direct:
    """Entry e stands at ``places[e]`` of all products laid end to end: that of ``sizes`` = (count, width) each."""

    def __init__(self, layout: Layout, places: Places, sizes: Sequence[tuple[int, int]], device: torch.device) -> None:
        self._at, self._device = layout, device
        rank, ranks = layout.ranks.rank, layout.ranks.size
        product = _product(places, sizes)
        owner = np.searchsorted(np.asarray(layout.bounds[1:]), product, side="right")
        mine = np.flatnonzero(owner == rank)
        blocks = np.searchsorted(np.asarray(layout.entries[1:]), np.arange(places.size), side="right")
        self._between = np.bincount(owner * ranks + blocks, minlength=ranks * ranks).reshape(ranks, ranks)
        self._mine = _tensor(mine, device)
        self._read = _tensor(places[mine] - _start(layout.mine.start, sizes), device)
        arrived = np.argsort(owner[layout.block], kind="stable")
        self._put = _tensor(np.argsort(arrived, kind="stable"), device)
        self._owned = np.bincount(owner, minlength=ranks).tolist()
        number = np.empty(places.size, np.int64)  # of an entry, among those of its owner
        order = np.argsort(owner, kind="stable")
        number[order] = np.arange(places.size) - np.repeat(np.cumsum([0, *self._owned[:-1]]), self._owned)
        self._gathered = owner * max(self._owned) + number
        self._all: torch.Tensor | None = None

    def local(self, products: list[torch.Tensor]) -> torch.Tensor:
        """(entries of this rank,)."""
        flat = [p.reshape(-1) for p in products]
        return (flat[0] if len(flat) == 1 else torch.cat(flat)).index_select(0, self._read)

    def own(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of its colors."""
        return self._mine, local

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """From every rank what its colors gave in these rows."""
        rank, ranks = self._at.ranks.rank, self._at.ranks
        sending, receiving = self._between[rank].tolist(), self._between[:, rank].tolist()
        return ranks.swap(local, sending, receiving).index_select(0, self._put)

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """One message to each other rank."""
        if self._all is None:
            self._all = _tensor(self._gathered, self._device)
        return self._at.ranks.gather(local, self._owned).reshape(-1).index_select(0, self._all)


class Solved:
    """Entries that are solved for: every rank has the products of all, and keeps what is in its rows."""

    def __init__(
        self, layout: Layout, sizes: Sequence[tuple[int, int]], recover: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        self._at, self._recover = layout, recover
        starts = [_start(bound, sizes) for bound in layout.bounds]
        self._lengths = np.diff(starts).tolist()

    def local(self, products: list[torch.Tensor]) -> torch.Tensor:
        """The products of this rank, flat."""
        return torch.cat([p.reshape(-1) for p in products])

    def own(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Those in its rows."""
        block = self._at.block
        return torch.arange(block.start, block.stop, device=local.device), self.block(local)

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """Cut out of all."""
        return self.all(local)[self._at.block]

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """From the products of all."""
        return self._recover(_unpadded(self._at.ranks.gather(local, self._lengths), self._lengths))


class Repeated:
    """Values that every rank computes by itself, by a program that has no products to share."""

    def __init__(self, layout: Layout) -> None:
        self._at = layout

    def local(self, products: list[torch.Tensor]) -> torch.Tensor:
        """All values."""
        return products[0]

    def own(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Those in its rows."""
        block = self._at.block
        return torch.arange(block.start, block.stop, device=local.device), local[block]

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """Cut out of all."""
        return local[self._at.block]

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """They are here."""
        return local


def _product(places: Places, sizes: Sequence[tuple[int, int]]) -> Places:
    """In which of all products each place is."""
    product, before, start = np.zeros_like(places), 0, 0
    for count, width in sizes:
        inside = (places >= start) & (places < start + count * width)
        product[inside] = before + (places[inside] - start) // max(width, 1)
        before, start = before + count, start + count * width
    return product


def _start(product: int, sizes: Sequence[tuple[int, int]]) -> int:
    """Where product number ``product`` starts, all laid end to end."""
    start = 0
    for count, width in sizes:
        start += min(product, count) * width
        product -= min(product, count)
    return start


def _overlaps(mine: Sequence[int], theirs: Sequence[int], rank: int) -> tuple[list[int], list[int]]:
    """How much of this rank's part of ``mine`` is in each part of ``theirs``, and the other way round."""

    def of(part: tuple[int, int], parts: Sequence[int]) -> list[int]:
        return [max(0, min(part[1], b) - max(part[0], a)) for a, b in itertools.pairwise(parts)]

    return of((mine[rank], mine[rank + 1]), theirs), of((theirs[rank], theirs[rank + 1]), mine)


def _unpadded(gathered: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """The parts, (ranks, most, ...), end to end: a view where only the last is filled up."""
    most = max(counts)
    full = [count for count in counts if count]
    if all(count == most for count in full[:-1]) and counts[: len(full)] == full:
        return gathered.flatten(0, 1)[: sum(counts)]
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])


def _tensor(places: np.ndarray[tuple[int], np.dtype[np.int64]], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(places, dtype=np.int64)).to(device)
