"""Reduce the slots of a tensor to as many as an element has different inputs; sums of unlike maps leave more.

Slot k then holds every element's k-th smallest input, so that maps of later sums are equal.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch

from ..tensor_map import tensor_on
from .index_map import IndexMap, sample
from .slots import Coefficient, Ints, Slot, State, add_coefficients

Mask = npt.NDArray[np.bool_]
Plan = list[tuple[IndexMap, list[tuple[int, torch.Tensor | None]]]]
"""For each new slot its map, and the old slots that it takes inputs from, each with where: None for everywhere."""

Plans = dict[Hashable, Plan | None]
"""The plan for each list of maps of slots; None where all slots are needed."""


def compact(state: State, plans: Plans) -> None:
    """Reduce the slots of ``state`` if its elements have fewer inputs; the same maps are compared once."""
    if len(state.slots) < 3:
        return
    key = (*(slot.map for slot in state.slots), state.device)
    if key not in plans:
        plans[key] = _plan([slot.map for slot in state.slots], state.shape, state.device)
    plan, old = plans[key], state.slots
    if plan is not None:
        state.slots = [
            Slot(index, reduce(add_coefficients, (_part(state, old[k], mask) for k, mask in terms)), clean=True)
            for index, terms in plan
        ]


def _part(state: State, slot: Slot, mask: torch.Tensor | None) -> Coefficient:
    if mask is None:
        return slot.coefficient
    return torch.where(mask, state.tensor(slot.coefficient), state.like)


def _plan(maps: Sequence[IndexMap], shape: torch.Size, device: torch.device) -> Plan | None:
    most = _LOOSE * len(maps)
    places = sample(shape.numel())
    if len(distinct_sorted([index.at(places) for index in maps])) > most:
        return None
    inputs = distinct_sorted([index.flat for index in maps])
    if len(inputs) > most:
        return None
    plan: Plan = []
    for canonical in inputs:
        masks = [(index.flat == canonical) & (canonical != 0) for index in maps]
        terms = [(k, _small(mask.reshape(shape), device)) for k, mask in enumerate(masks) if mask.any()]
        plan.append((IndexMap(torch.from_numpy(canonical.reshape(shape))), terms))
    return plan


def _small(mask: Mask, device: torch.device) -> torch.Tensor | None:
    """Return a mask as a tensor, small where it repeats itself; None where it is true everywhere."""
    if mask.all():
        return None
    for d in range(mask.ndim):
        first = mask.take([0], d)
        mask = first if (mask == first).all() else mask
    return tensor_on(device, mask)


def distinct_sorted(ids: Sequence[Ints]) -> list[Ints]:
    """Return rows with the distinct ids of each element in order, 0 where it has fewer; as many as one has at most."""
    rows = _sorted([np.where(row == 0, _LAST, row) for row in ids])
    repeated = [(high == low) & (high != _LAST) for low, high in itertools.pairwise(rows)]
    if any(again.any() for again in repeated):
        rows = _sorted([rows[0], *(np.where(again, _LAST, row) for again, row in zip(repeated, rows[1:], strict=True))])
    rows = [np.where(row == _LAST, 0, row) for row in rows]
    return [row for row in rows if row.any()]


def _sorted(rows: list[Ints]) -> list[Ints]:
    """Sort every column of ``rows``: by a network of exchanges between neighbours, for a few rows the fastest."""
    if len(rows) > _FEW:
        return list(np.sort(np.stack(rows), 0))
    for turn in range(len(rows)):
        for k in range(turn % 2, len(rows) - 1, 2):
            rows[k], rows[k + 1] = np.minimum(rows[k], rows[k + 1]), np.maximum(rows[k], rows[k + 1])
    return rows


_LOOSE = 0.8  # distinct inputs for each slot, above which the slots stay as they are
_FEW = 16  # rows that a network sorts faster than NumPy
_LAST = np.iinfo(np.int64).max
