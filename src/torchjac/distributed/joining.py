"""Joining: the values of a Jacobian from the products of all ranks, and the rank that each entry belongs to.

    products of a rank -> local (values it has by itself) -> own entries | its block of rows | all values

Dense products are rows or columns, and need no index. An entry that is read off colored products is on the rank of its
color, and a block of rows collects entries from all ranks. Entries that are solved for need the products of all ranks.
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
    """The layout that all joinings share: the stored pattern, and the ranges of products and of rows of each rank."""

    pattern: SparsityPattern
    bounds: Sequence[int]
    ranks: Ranks

    @property
    def rows(self) -> list[int]:
        """The first row of each rank, and the end, (ranks + 1,)."""
        return even(self.pattern.shape[0], self.ranks.size)

    @property
    def entries(self) -> list[int]:
        """The first entry in the rows of each rank, and the end, (ranks + 1,)."""
        m, n = self.pattern.shape
        full = self.pattern.nnz == m * n
        return [row * n if full else int(self.pattern.indptr[row]) for row in self.rows]

    @property
    def counts(self) -> list[int]:
        """The number of products of each rank."""
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
    """A way to join the products of the ranks to values, row by row."""

    def local(self, products: list[torch.Tensor]) -> torch.Tensor:
        """The part of this rank, from its products: one tensor a direction, (count, width) each."""

    def own(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries of this rank, ascending, and their values; every entry is on one rank."""

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """The values of the entries in this rank's rows."""

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """The values of all entries, on every rank."""


class DenseRows:
    """A joining of dense rows: product k is row k of the matrix."""

    def __init__(self, layout: Layout) -> None:
        self._at, self._n = layout, layout.pattern.shape[1]

    def local(self, products: list[torch.Tensor]) -> torch.Tensor:
        """The rows of this rank, (rows, n)."""
        return products[0]

    def own(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries of whole rows, and their values."""
        start, stop = self._at.mine.start * self._n, self._at.mine.stop * self._n
        return torch.arange(start, stop, device=local.device), local.reshape(-1)

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """The values in this rank's rows; without a message where products were cut like rows."""
        if list(self._at.bounds) == self._at.rows:
            return local.reshape(-1)
        sending, receiving = _overlaps(self._at.bounds, self._at.rows, self._at.ranks.rank)
        flat = local.reshape(-1)
        return self._at.ranks.swap(flat, [self._n * k for k in sending], [self._n * k for k in receiving])

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """The values of all entries; one message to each other rank."""
        return _unpadded(self._at.ranks.gather(local, self._at.counts), self._at.counts).reshape(-1)


class DenseColumns:
    """A joining of dense columns: product k is column k, stored so that a block of rows is contiguous."""

    def __init__(self, layout: Layout) -> None:
        self._at, self._m = layout, layout.pattern.shape[0]

    def local(self, products: list[torch.Tensor]) -> torch.Tensor:
        """The columns of this rank, (m, columns)."""
        return products[0].T

    def own(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries of whole columns, row by row, and their values."""
        mine, n = self._at.mine, self._at.pattern.shape[1]
        rows = torch.arange(self._m, device=local.device)[:, None] * n
        return (rows + torch.arange(mine.start, mine.stop, device=local.device)).reshape(-1), local.reshape(-1)

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """The values in this rank's rows; every rank sends those in its columns."""
        ranks, counts = self._at.ranks, self._at.counts
        heights = np.diff(self._at.rows).tolist()
        mine = heights[ranks.rank]
        sending, receiving = [h * counts[ranks.rank] for h in heights], [mine * k for k in counts]
        parts = ranks.swap(local.reshape(-1), sending, receiving).split(receiving)
        return torch.cat([part.reshape(mine, k) for part, k in zip(parts, counts, strict=True)], 1).reshape(-1)

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """The values of all entries; one message to each other rank."""
        columns = self._at.ranks.gather(local.T.contiguous(), self._at.counts)
        return _unpadded(columns, self._at.counts).T.reshape(-1)


class Direct:
    """A joining of entries that are read off: entry e stands at ``places[e]`` of all products laid end to end.

    ``sizes``: (count, width) of the products of each direction.
    """

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
        """The values of the entries of this rank, (entries,)."""
        flat = [p.reshape(-1) for p in products]
        return (flat[0] if len(flat) == 1 else torch.cat(flat)).index_select(0, self._read)

    def own(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries of this rank's colors, and their values."""
        return self._mine, local

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """The values in this rank's rows; every rank sends those of its colors."""
        rank, ranks = self._at.ranks.rank, self._at.ranks
        sending, receiving = self._between[rank].tolist(), self._between[:, rank].tolist()
        return ranks.swap(local, sending, receiving).index_select(0, self._put)

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """The values of all entries; one message to each other rank."""
        if self._all is None:
            self._all = _tensor(self._gathered, self._device)
        return self._at.ranks.gather(local, self._owned).reshape(-1).index_select(0, self._all)


class Solved:
    """A joining of entries that are solved for: every rank receives all products and keeps the entries in its rows."""

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
        """The entries in this rank's rows, and their values."""
        block = self._at.block
        return torch.arange(block.start, block.stop, device=local.device), self.block(local)

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """The values in this rank's rows, cut out of all values."""
        return self.all(local)[self._at.block]

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """The values of all entries, solved for from the products of all ranks."""
        return self._recover(_unpadded(self._at.ranks.gather(local, self._lengths), self._lengths))


class Repeated:
    """A joining of nothing: every rank computes all values by a program, which has no products to share."""

    def __init__(self, layout: Layout) -> None:
        self._at = layout

    def local(self, products: list[torch.Tensor]) -> torch.Tensor:
        """The values of all entries."""
        return products[0]

    def own(self, local: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries in this rank's rows, and their values."""
        block = self._at.block
        return torch.arange(block.start, block.stop, device=local.device), local[block]

    def block(self, local: torch.Tensor) -> torch.Tensor:
        """The values in this rank's rows, cut out of all values."""
        return local[self._at.block]

    def all(self, local: torch.Tensor) -> torch.Tensor:
        """The values of all entries, which every rank has."""
        return local


def _product(places: Places, sizes: Sequence[tuple[int, int]]) -> Places:
    """The number of the product that each place is in."""
    product, before, start = np.zeros_like(places), 0, 0
    for count, width in sizes:
        inside = (places >= start) & (places < start + count * width)
        product[inside] = before + (places[inside] - start) // max(width, 1)
        before, start = before + count, start + count * width
    return product


def _start(product: int, sizes: Sequence[tuple[int, int]]) -> int:
    """The place where a product starts, all products laid end to end."""
    start = 0
    for count, width in sizes:
        start += min(product, count) * width
        product -= min(product, count)
    return start


def _overlaps(mine: Sequence[int], theirs: Sequence[int], rank: int) -> tuple[list[int], list[int]]:
    """The overlap of this rank's range of ``mine`` with each range of ``theirs``, and the other way round."""

    def of(part: tuple[int, int], parts: Sequence[int]) -> list[int]:
        return [max(0, min(part[1], b) - max(part[0], a)) for a, b in itertools.pairwise(parts)]

    return of((mine[rank], mine[rank + 1]), theirs), of((theirs[rank], theirs[rank + 1]), mine)


def _unpadded(gathered: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """The parts of (ranks, most, ...) end to end, without padding: a view where only the last parts are padded."""
    most = max(counts)
    full = [count for count in counts if count]
    if all(count == most for count in full[:-1]) and counts[: len(full)] == full:
        return gathered.flatten(0, 1)[: sum(counts)]
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])


def _tensor(places: np.ndarray[tuple[int], np.dtype[np.int64]], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(places, dtype=np.int64)).to(device)
