"""The dependence of a tensor of the tangent program on v: a few slots, each an index map and a coefficient.

    t[i] = sum over slots of coefficient[i] * v[map[i]]   +   sum over entries (i, j, c) of c * v[j]

A slot is regular: one input for every element. Where structure is irregular (scattered sums, long reductions) entries
say the same one by one: (rows, columns) known beforehand, values computed. Coefficients that are the same number
everywhere stay Python numbers, and cost nothing to carry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from ..tensor_map import tensor_on
from .index_map import IndexMap, sample
from .ordering import sorted_pairs

Coefficient = torch.Tensor | float
Ints = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Slot:
    """A map and its ``coefficient``, which broadcasts to it; ``clean``: it is zero where the map has no input."""

    map: IndexMap
    coefficient: Coefficient
    clean: bool


@dataclass(frozen=True)
class Entries:
    """Element ``rows[k]`` (flat) depends on input ``columns[k]`` with ``values[k]``: a matrix by its triplets."""

    rows: Ints
    columns: Ints
    values: torch.Tensor

    @property
    def size(self) -> int:
        return self.rows.size

    def picked(self, places: Ints, rows: Ints) -> Entries:
        """Return the entries at ``places`` (any number of times), with other rows."""
        index = tensor_on(self.values.device, places)
        return Entries(rows, self.columns[places], self.values.index_select(0, index))

    def coalesced(self) -> Entries:
        """Return the entries with every (row, column) once, values summed."""
        order = sorted_pairs(self.rows, self.columns)
        rows, columns = self.rows[order], self.columns[order]
        new = np.ones(self.size, bool)
        new[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
        if new.all():
            return self
        target = np.empty(self.size, np.int64)
        target[order] = np.cumsum(new) - 1
        rows, columns = rows[new], columns[new]
        index = tensor_on(self.values.device, target)
        return Entries(rows, columns, self.values.new_zeros(rows.size).index_add(0, index, self.values))


@dataclass
class State:
    """The dependence of one tensor on v: its slots and entries."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    slots: list[Slot] = field(default_factory=list)
    entries: list[Entries] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The number of coefficients in all."""
        return len(self.slots) * self.shape.numel() + sum(e.size for e in self.entries)

    @cached_property
    def like(self) -> torch.Tensor:
        """A zero of the tensor's dtype and device."""
        return torch.zeros((), dtype=self.dtype, device=self.device)

    def add(self, slot: Slot) -> None:
        """Add a slot, merged with one that has the same map, or a map that agrees, or one for other elements only.

        Maps agree if they are the same shift of the inputs, cut off at different borders: a stencil assembled from its
        cells then has one slot for each neighbour.
        """
        if slot.map.empty:
            return
        for k, mine in enumerate(self.slots):
            if mine.map == slot.map:
                both = add_coefficients(mine.coefficient, slot.coefficient)
                self.slots[k] = Slot(mine.map, both, mine.clean and slot.clean)
                return
        for joins in (IndexMap.agrees, IndexMap.disjoint):
            for k, mine in enumerate(self.slots):
                if joins(mine.map, slot.map):
                    self.slots[k] = self._joined(mine, slot)
                    return
        self.slots.append(slot)

    def add_all(self, other: State, scale: Callable[[Coefficient], Coefficient] = lambda c: c) -> None:
        """Add the dependence of another tensor, broadcast to this one's shape, with scaled coefficients."""
        for slot in other.slots:
            self.add(Slot(slot.map.broadcast(self.shape), scale(slot.coefficient), slot.clean))
        for entries in other.broadcast_entries(self.shape):
            values = scale(entries.values)
            assert isinstance(values, torch.Tensor)
            self.entries.append(Entries(entries.rows, entries.columns, values))

    def _joined(self, a: Slot, b: Slot) -> Slot:
        """Return two slots as one; no element has different inputs in them."""
        joined = a.map.joined(b.map)
        numbers = not isinstance(a.coefficient, torch.Tensor) and not isinstance(b.coefficient, torch.Tensor)
        if numbers and a.coefficient == b.coefficient and a.map.disjoint(b.map):
            return Slot(joined, a.coefficient, joined.full)
        both = add_coefficients(self.cleaned(a), self.cleaned(b))
        return Slot(joined, both, clean=True)

    def cleaned(self, slot: Slot) -> torch.Tensor:
        """Return the slot's coefficient, zero wherever its map has no input."""
        c = self.tensor(slot.coefficient)
        if slot.clean or slot.map.full:
            return c
        return torch.where(tensor_on(c.device, np.asarray(slot.map.array != 0)), c, self.like)

    def tensor(self, c: Coefficient) -> torch.Tensor:
        """Return a coefficient as a tensor that broadcasts to the shape."""
        return c if isinstance(c, torch.Tensor) else torch.full_like(self.like, c)

    def full(self, slot: Slot) -> torch.Tensor:
        """Return a slot's coefficient with the shape of the tensor."""
        c = self.tensor(slot.coefficient)
        return c if c.shape == self.shape else c.expand(self.shape)

    def all_entries(self) -> list[Entries]:
        """Return the entries, and the slots as entries too."""
        return [*self.entries, *(self._as_entries(slot) for slot in self.slots)]

    def _as_entries(self, slot: Slot) -> Entries:
        ids = slot.map.flat
        values = self.full(slot).reshape(-1)
        if slot.map.full:
            return Entries(np.arange(ids.size), ids - 1, values)
        rows = np.flatnonzero(ids)
        picked = values.index_select(0, tensor_on(values.device, rows))
        return Entries(rows, ids[rows] - 1, picked)

    def broadcast_entries(self, shape: torch.Size) -> list[Entries]:
        """Return the entries of this tensor, broadcast to ``shape``."""
        if shape == self.shape or not self.entries:
            return self.entries
        source = np.broadcast_to(np.arange(self.shape.numel()).reshape(self.shape), shape).reshape(-1)
        return [spread(entries, source, self.shape.numel()) for entries in self.entries]


def spread(entries: Entries, source: Ints, count: int) -> Entries:
    """Return the entries of a tensor whose element o copies element ``source[o]`` (-1: zero) of ``count`` elements."""
    order = np.argsort(entries.rows, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(entries.rows, minlength=count))])
    out = np.flatnonzero(source >= 0)
    copied = source[out]
    lengths = starts[copied + 1] - starts[copied]
    rows = np.repeat(out, lengths)
    within = np.arange(rows.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = order[np.repeat(starts[copied], lengths) + within]
    if places.size == entries.size and np.array_equal(places, np.arange(places.size)):
        return Entries(rows, entries.columns, entries.values)
    return entries.picked(places, rows)


def add_coefficients(a: Coefficient, b: Coefficient) -> Coefficient:
    """Return a + b; numbers stay numbers."""
    return a + b


def aligned(states: Sequence[State]) -> list[list[Slot | None]]:
    """Return groups of at most one slot of each tensor: a group has slots of one rank, by the order of their inputs."""
    if len(states) == 1:
        return [[slot] for slot in states[0].slots]
    ranked = [_ranked(state) for state in states]
    most = max(map(len, ranked), default=0)
    return [[slots[k] if k < len(slots) else None for slots in ranked] for k in range(most)]


def _ranked(state: State) -> list[Slot]:
    """Return the slots by the rank of their input among those of an element, on average over a few elements."""
    if len(state.slots) < 2:
        return state.slots
    places = sample(state.shape.numel())
    ids = np.stack([slot.map.at(places) for slot in state.slots])
    rank = (ids[None] < ids[:, None]).sum((1, 2))
    return [state.slots[k] for k in np.argsort(rank, kind="stable")]
