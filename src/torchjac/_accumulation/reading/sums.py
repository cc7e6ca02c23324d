"""Read sums: a slot for each summand where they are few, entries where they are many."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch

from ..coefficients.index_map import IndexMap
from ..coefficients.slots import Coefficient, Entries, Slot, State
from ..tensor_map import no_dispatch
from .states import States, state_of

_SPLIT = 64  # slots that a sum makes at most; a larger one makes entries


def summed(reader: States, operand: torch.Tensor, out: torch.Tensor, dims: Sequence[int], keepdim: bool) -> State:
    """Return the state of a sum over ``dims``: a slot for each of few summands, entries for many."""
    given = reader.state(operand)
    state = state_of(out)
    gone = sorted({d % operand.dim() for d in dims}) if operand.dim() else []
    count = math.prod(operand.shape[d] for d in gone)
    for slot in given.slots:
        if _same_along(slot.map, gone):
            c = given.full(slot).sum(gone, keepdim=keepdim) if gone else given.tensor(slot.coefficient)
            state.add(Slot(_selected(reader, slot.map, gone, [0] * len(gone), keepdim), c, slot.clean))
        elif count * len(given.slots) <= _SPLIT:
            coefficient: Coefficient = slot.coefficient
            small = not isinstance(coefficient, torch.Tensor) or coefficient.dim() == 0
            whole = coefficient if small else given.full(slot)
            for place in itertools.product(*(range(operand.shape[d]) for d in gone)):
                part = whole if small or not isinstance(whole, torch.Tensor) else _select(whole, gone, place, keepdim)
                state.add(Slot(_selected(reader, slot.map, gone, place, keepdim), part, slot.clean))
        else:
            state.entries.append(_summed(given._as_entries(slot), operand.shape, gone))
    state.entries += [_summed(entries, operand.shape, gone) for entries in given.entries]
    return state


def _same_along(index: IndexMap, dims: Sequence[int]) -> bool:
    """Whether all summands depend on the same input."""
    ids = index.array
    for d in dims:
        if ids.shape[d] == 1 or ids.strides[d] == 0 or not ids.size:
            continue
        last = (0,) * d + (-1,)
        if (ids[last] != ids[(0,) * (d + 1)]).any() or not (ids == ids.take([0], d)).all():
            return False
    return all(ids.shape[d] > 0 for d in dims)


def _selected(reader: States, index: IndexMap, dims: Sequence[int], place: Sequence[int], keepdim: bool) -> IndexMap:
    key = ("select", index, *dims, *place, keepdim)
    if key not in reader.moved:
        with no_dispatch():
            reader.moved[key] = index.viewed(_select(index.ids, dims, place, keepdim))
    return reader.moved[key]


def _select(t: torch.Tensor, dims: Sequence[int], place: Sequence[int], keepdim: bool) -> torch.Tensor:
    """Return ``t`` at one place along ``dims``."""
    for d, at in sorted(zip(dims, place, strict=True), reverse=True):
        t = t.narrow(d, at, 1) if keepdim else t.select(d, at)
    return t


def _summed(entries: Entries, shape: torch.Size, gone: Sequence[int]) -> Entries:
    kept = [1 if d in gone else s for d, s in enumerate(shape)]
    target = np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), shape).reshape(-1)
    return Entries(target[entries.rows], entries.columns, entries.values).coalesced()
