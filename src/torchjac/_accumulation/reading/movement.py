"""Read views, and ops that move elements: they move maps and coefficients alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..._base.words import OpArgument, OpResult
from ..._tangent.call import Call, base_name
from ..._tangent.relations import Ids, Move
from ..._tangent.rules import RULES
from ..._tangent.trace import is_view
from ..._tangent.values import tensors
from ..coefficients.index_map import IndexMap
from ..coefficients.slots import Slot, State, aligned, spread
from ..tape.tape import replaced
from ..tensor_map import no_dispatch
from .states import States, state_of


def move(reader: States, call: Call, out: torch.Tensor, which: int | None = None) -> State:
    """Return the state of a view, or of an op that moves elements: maps and coefficients move alike."""
    operands = call.operands
    state = state_of(out)
    states = [reader.state(t) for t in operands]
    for group in aligned(states):
        state.add(_moved_slot(reader, call, operands, states, group, out, which))
    for operand, given in zip(operands, states, strict=True):
        if given.entries:
            places = IndexMap(torch.from_numpy(np.arange(1, operand.numel() + 1).reshape(operand.shape)))
            flat = _moved_map(reader, call, [operand], [places], which).broadcast(out.shape).flat - 1
            state.entries += [spread(e, flat, operand.numel()) for e in given.entries]
    return state


def _moved_slot(
    reader: States,
    call: Call,
    operands: Sequence[torch.Tensor],
    states: Sequence[State],
    group: Sequence[Slot | None],
    out: torch.Tensor,
    which: int | None,
) -> Slot:
    there = [(t, s, g) for t, s, g in zip(operands, states, group, strict=True) if g is not None]
    maps = [_nothing(t.shape) if g is None else g.map for t, g in zip(operands, group, strict=True)]
    moved = _moved_map(reader, call, operands, maps, which).broadcast(out.shape)
    numbers = {g.coefficient for _, _, g in there if not isinstance(g.coefficient, torch.Tensor)}
    if len(numbers) == 1 and all(not isinstance(g.coefficient, torch.Tensor) for _, _, g in there):
        return Slot(moved, numbers.pop(), moved.full)
    scalar = there[0][2].coefficient
    if len(there) == 1 and isinstance(scalar, torch.Tensor) and scalar.dim() == 0:
        return Slot(moved, scalar, moved.full)
    given = {id(t): s.full(g) for t, s, g in there}

    def replace(t: torch.Tensor) -> torch.Tensor:
        if not any(t is o for o in operands):
            return t
        return given[id(t)] if id(t) in given else torch.zeros_like(t)

    c = _run_move(reader, call, replace)
    clean = all(g.clean or g.map.full for _, _, g in there)
    return Slot(moved, c if which is None else c[which], clean)


def _run_move(reader: States, call: Call, replace: Callable[[Any], OpArgument]) -> OpResult:
    if base_name(call.op) == "as_strided":  # of a coefficient, this memory would hold something else
        raise reader.refusal(call, "it reads memory that is not that of one dense tensor")
    args, kwargs = replaced((call.args, call.kwargs), replace, torch.Tensor)
    if base_name(call.op) in ("view", "_unsafe_view") and call.has("size"):
        return torch.reshape(*args)
    return call.op(*args, **kwargs)


def _moved_map(
    reader: States, call: Call, operands: Sequence[torch.Tensor], maps: Sequence[IndexMap], which: int | None
) -> IndexMap:
    places = {id(t): k for k, t in enumerate(operands)}  # cat([a, b]) moves otherwise than cat([b, a])
    given = replaced((call.args, call.kwargs), lambda t: ("operand", places.get(id(t)), t.shape), torch.Tensor)
    fixed = any(id(t) not in places for t in (*tensors(call.args), *tensors(call.kwargs.values())))
    key = (call.op, repr(given), which, *maps)
    if fixed or key not in reader.moved:
        ids = {id(t): m.ids for t, m in zip(operands, maps, strict=True)}
        moved = _ids_through(reader, call, operands, ids, which)
        index = maps[0].viewed(moved) if is_view(call.op) else IndexMap(moved)
        if fixed:  # what another tensor says may differ between two calls with the same key
            return index
        reader.moved[key] = index
    return reader.moved[key]


def _ids_through(
    reader: States, call: Call, operands: Sequence[torch.Tensor], ids: dict[int, Ids], which: int | None
) -> Ids:
    def of(t: torch.Tensor) -> Ids:
        return ids[id(t)] if id(t) in ids else _nothing(t.shape).ids

    rule = RULES.get(base_name(call.op))
    if rule is not None and not is_view(call.op):
        with reader.following():
            (relation,) = rule(call)
        assert isinstance(relation, Move)
        with no_dispatch():
            return relation.run(of)
    with no_dispatch():
        moved = _run_move(reader, call, lambda t: ids.get(id(t), t))
    out: Ids = moved if which is None else moved[which]
    return out


def _nothing(shape: torch.Size) -> IndexMap:
    """Return the map of a tensor that depends on nothing."""
    return IndexMap(torch.from_numpy(np.zeros((), np.int64))).broadcast(shape)
