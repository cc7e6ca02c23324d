"""Shadow memory: a number for every slot of every storage, which says what the slot depends on.

Kept per *storage*, not per tensor: a view of a storage reads its numbers through its own strides, so views need no
rule, and in-place writes, ``out=``, slices of slices and aliases are right by construction. What a number means is
the reading's business (index sets: the number of a set; 0 is the empty one).
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from .reading import Reading


@dataclass
class _Cells:
    """The numbers of one storage, one for every ``unit`` bytes."""

    unit: int
    ids: torch.Tensor


def has_memory(t: torch.Tensor) -> bool:
    """Whether t has numbers in memory: a symbolic zero has none, nor has a tensor on the meta device."""
    return not torch._is_zerotensor(t) and t.device.type != "meta"


def in_memory(t: torch.Tensor) -> torch.Tensor:
    """T; zeros that PyTorch keeps without memory, with it.

    Below autograd some ops (``mul.Scalar``) read them as if there was memory: the process ends.
    """
    return torch.zeros(t.shape, dtype=t.dtype, device=t.device) if torch._is_zerotensor(t) else t


def memory(t: torch.Tensor) -> torch.Tensor:
    """The strided tensor that holds t's numbers: t itself, or the values of a sparse tensor."""
    if t.layout is torch.strided:
        return t
    return t._values() if t.layout is torch.sparse_coo else t.values()


class Shadow:
    """The ids of every storage; a storage without ids holds nothing that depends on v."""

    def __init__(self, reading: Reading) -> None:
        self.cells: WeakKeyDictionary[torch.UntypedStorage, _Cells] = WeakKeyDictionary()
        self._reading = reading

    def covers(self, t: torch.Tensor) -> bool:
        """Whether some slot of t's storage depends on v."""
        return has_memory(t) and memory(t).untyped_storage() in self.cells

    def read(self, t: torch.Tensor) -> torch.Tensor:
        """The ids of t's elements, of t's shape; a view of the shadow where possible, so do not write to it."""
        if not has_memory(t) or memory(t).untyped_storage() not in self.cells:
            return torch.zeros((), dtype=torch.int64).expand(t.shape)
        parts = self._parts(memory(t))
        ids = parts[0]
        for part in parts[1:]:
            ids = self._reading.union(ids, part)
        if t.layout is not torch.strided:  # where its elements lie is not followed: each may be any of its values
            ids = self._reading.reduce(ids.reshape(-1), (0,)).expand(t.numel()).reshape(t.shape)
        return ids

    def write(self, t: torch.Tensor, ids: torch.Tensor) -> None:
        """Set the ids of t's elements; ``ids`` broadcasts to t's shape. All elements of a sparse tensor share one."""
        if t.layout is not torch.strided:
            ids = self._reading.reduce(ids.reshape(-1), (0,)).reshape(()) if ids.numel() else ids.new_zeros(())
        for part in self._parts(memory(t)):
            part.copy_(ids)

    def all_ids(self) -> list[torch.Tensor]:
        """Every id tensor that is alive, for the reading to compact its tables."""
        return [cells.ids for cells in self.cells.values()]

    def _parts(self, t: torch.Tensor) -> list[torch.Tensor]:
        """Views into the shadow, one for each unit that an element of t is made of (two for a complex number)."""
        unit = t.element_size() // (2 if t.is_complex() else 1)
        cells = self._cells_of(t, unit)
        ratio = t.element_size() // cells.unit
        strides = [s * ratio for s in t.stride()]
        return [torch.as_strided(cells.ids, t.shape, strides, t.storage_offset() * ratio + k) for k in range(ratio)]

    def _cells_of(self, t: torch.Tensor, unit: int) -> _Cells:
        storage = t.untyped_storage()
        cells = self.cells.get(storage)
        if cells is None:
            cells = self.cells[storage] = _Cells(unit, torch.zeros(storage.nbytes() // unit, dtype=torch.int64))
        if cells.unit > unit:  # the same bytes seen as smaller elements: each inherits from the larger one
            cells.ids = cells.ids.repeat_interleave(cells.unit // unit)
            cells.unit = unit
        missing = storage.nbytes() // cells.unit - cells.ids.numel()
        if missing > 0:  # resize_ made the storage larger
            cells.ids = torch.cat([cells.ids, cells.ids.new_zeros(missing)])
        return cells
