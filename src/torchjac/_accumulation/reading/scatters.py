"""Read ops that write or add at places given by an index: they make entries with new rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..._tangent.call import Call, base_name
from ..._tangent.relations import Pointwise, Relation, Scatter
from ..coefficients.index_map import IndexMap
from ..coefficients.slots import Entries, Slot, State
from ..errors import CannotAccumulateError
from ..tape.tape import replaced
from .scaling import multiplied, scaled
from .states import States, state_of


def scatter(reader: States, call: Call, relations: Sequence[Relation], out: torch.Tensor) -> State:
    """Return the state of a write or sum: entries of the operand move to the rows that they are written to."""
    state = state_of(out)
    scale = scaled(SCATTERS[base_name(call.op)](call))
    for relation in relations:
        if isinstance(relation, Pointwise):
            state.add_all(reader.state(relation.operand))
        elif isinstance(relation, Scatter):
            target = relation.target.reshape(-1)
            if relation.replaces:
                hit = target[target >= 0]
                if hit.unique().numel() < hit.numel():
                    raise reader.refusal(call, "it writes to one place more than once, and which one stays is not said")
                _forget(state, hit)
            for entries in reader.state(relation.operand).all_entries():
                rows = target.numpy()[entries.rows]
                kept = np.flatnonzero(rows >= 0)
                moved = Entries(rows, entries.columns, entries.values)
                moved = moved if kept.size == rows.size else entries.picked(kept, rows[kept])
                values = scale(moved.values)
                assert isinstance(values, torch.Tensor)
                state.entries.append(Entries(moved.rows, moved.columns, values).coalesced())
        else:
            raise reader.refusal(call, "its sums are not taken apart")
    return state


def forgotten(reader: States, call: Call, out: torch.Tensor) -> State:
    """A constant written at places that were computed from x: they forget, so that each coefficient is kept or zero.

    Before/after, the derivative of ``y[y > 0] = 1``: ``mul(c, index_put(ones, [y > 0], 0))``.
    """
    base = call["self"]

    def replace(t: torch.Tensor) -> torch.Tensor:
        if t is base:
            return torch.ones(t.shape, dtype=t.dtype, device=t.device)
        return torch.zeros_like(t) if t.is_floating_point() or t.is_complex() else t

    args, kwargs = replaced((call.args, call.kwargs), replace, torch.Tensor)
    return multiplied(reader, base, call.op(*args, **kwargs), out)


SCATTERS: dict[str, Any] = {
    "scatter_add": lambda call: 1.0,
    "scatter": lambda call: _plain(call),
    "index_add": lambda call: call["alpha"],
    "index_copy": lambda call: 1.0,
    "index_put": lambda call: 1.0,
    "_index_put_impl": lambda call: 1.0,
    "_unsafe_index_put": lambda call: 1.0,
    "put": lambda call: 1.0,
    "masked_scatter": lambda call: 1.0,
    "embedding_dense_backward": lambda call: _unscaled(call),
}


WRITES = frozenset(SCATTERS) - {"embedding_dense_backward"} | {"index_fill"}
"""Ops with a base that they write to."""


def _plain(call: Call) -> float:
    if call.has("reduce"):
        raise CannotAccumulateError("scatter", "only sums and plain writes are followed")
    return 1.0


def _unscaled(call: Call) -> float:
    if call["scale_grad_by_freq"]:
        raise CannotAccumulateError("embedding_dense_backward", "scale_grad_by_freq is not followed")
    return 1.0


def _forget(state: State, hit: torch.Tensor) -> None:
    """Drop the dependence of the elements ``hit``, which are overwritten."""
    for k, slot in enumerate(state.slots):
        ids = slot.map.ids.clone(memory_format=torch.contiguous_format)
        ids.view(-1)[hit] = 0
        state.slots[k] = Slot(IndexMap(ids), slot.coefficient, clean=False)
    gone = np.zeros(state.shape.numel(), bool)
    gone[hit.numpy()] = True
    for k, entries in enumerate(state.entries):
        kept = np.flatnonzero(~gone[entries.rows])
        state.entries[k] = entries.picked(kept, entries.rows[kept])
