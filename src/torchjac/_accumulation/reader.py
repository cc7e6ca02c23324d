"""The second reading of the tangent program: coefficients instead of index sets.

In the tangent program every op is linear in what depends on v, so no derivative is needed here: an op's new coefficient
is that op applied to its old one, and its new index map is the old one moved as the op moves. The rules say
which way an op goes, the same ones that detection reads:

    Pointwise   the op on the coefficient, the map stays            mul(c, cos x)
    Move        the op on the coefficient, the op on the map        roll(c), roll(map)
    sums        a slot for each summand, equal maps merged          ``sums``
    Scatter     entries with new rows                               ``scatters``
    the rest    written in simpler ops first                        ``simpler``
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from .._tangent.call import Call, base_name
from .._tangent.relations import Ids, Move, Pointwise, Relation, Scatter
from .._tangent.rules import RULES
from .._tangent.trace import decomposition, is_pointwise, is_view
from .._tangent.values import ValueTrace, tensors
from .index_map import IndexMap
from .recorder import Recorder
from .refusal import CannotAccumulateError
from .scaling import SCALINGS, scaled
from .simpler import SIMPLER
from .slots import Coefficient, Entries, Slot, State, aligned, spread

_SPLIT = 64  # a sum makes at most so many slots; beyond, entries


class Reader(ValueTrace):
    """Use as a context inside that of its recorder: ``seed`` the tensors of v, run, then ``state`` of the results."""

    def __init__(self, recorder: Recorder, limit: int) -> None:
        super().__init__()
        self.recorder, self._limit = recorder, limit
        self._states: Any = WeakTensorKeyDictionary()
        self._moved: dict[Any, IndexMap] = {}

    def seed(self, t: torch.Tensor, ids: Ids) -> None:
        """Let t be a part of v."""
        state = State(t.shape, torch.zeros((), dtype=t.dtype, device=t.device))
        state.add(Slot(IndexMap(ids), 1.0, clean=False))
        self._states[t] = state

    def state(self, t: torch.Tensor) -> State:
        """What t depends on."""
        found: State = self._states[t] if t in self._states else State(t.shape, t.new_zeros(()))
        return found

    def depends(self, t: Any) -> bool:
        """Whether t depends on v."""
        return isinstance(t, torch.Tensor) and t in self._states

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = tensors(args) + tensors(kwargs.values())
        if not any(map(self.depends, inputs)):
            return self.run(func, args, kwargs, inputs)
        simpler = SIMPLER.get(base_name(func)) or decomposition(func)
        if simpler is not None:
            with self:
                out = (
                    simpler(*args, **kwargs)
                    if base_name(func) not in SIMPLER
                    else simpler(self._call(func, args, kwargs))
                )
            if out is not NotImplemented:
                return out
        call = self._call(func, args, kwargs)
        if any(t.is_complex() or t.layout is not torch.strided for t in call.operands):
            raise self.refusal(call, "complex and sparse tensors are not followed")
        call.out = self.run(func, args, kwargs, inputs)
        if any(t.is_complex() for t in tensors((call.out,))):
            raise self.refusal(call, "complex and sparse tensors are not followed")
        outs = [t for t in tensors((call.out,)) if t.is_floating_point()]
        for t, state in zip(outs, self._through(call, outs), strict=True):
            state.compact()
            if state.size > self._limit:
                raise self.refusal(call, f"{state.size:,} coefficients are more than colored products would compute")
            if state.slots or state.entries:
                self._states[t] = state
        return call.out

    def refusal(self, call: Call, why: str) -> CannotAccumulateError:
        """The error that ends the reading here."""
        return CannotAccumulateError(base_name(call.op), why, self.line())

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return Call(func, args, kwargs, self.depends, self.is_marked, self.choice)

    def _through(self, call: Call, outs: Sequence[torch.Tensor]) -> list[State]:
        """For each output of the call, what it depends on."""
        name = base_name(call.op)
        if is_view(call.op):
            return [
                self._move(call, out, k if isinstance(call.out, (tuple, list)) else None) for k, out in enumerate(outs)
            ]
        if name in SCALINGS:
            return [SCALINGS[name](self, call, outs[0])]
        rule = RULES.get(name)
        if rule is None:
            if not is_pointwise(call.op):
                raise self.refusal(call, "no rule says how it moves its operands")
            return [self._pointwise(call, call.operands, out) for out in outs]
        with self:  # views that a rule takes are views like others
            answer = rule(call)
        answers = answer if isinstance(answer, tuple) else (answer,) * len(outs)
        return [self._related(call, relations, out) for relations, out in zip(answers, outs, strict=True)]

    def _related(self, call: Call, relations: Sequence[Relation], out: torch.Tensor) -> State:
        if all(isinstance(r, Pointwise) for r in relations):
            return self._pointwise(call, [r.operand for r in relations if isinstance(r, Pointwise)], out)
        if len(relations) == 1 and isinstance(relations[0], Move):
            return self._move(call, out)
        if base_name(call.op) in SCATTERS and any(isinstance(r, Scatter) for r in relations):
            return self._scatter(call, relations, out)
        raise self.refusal(call, "its sums are not taken apart")

    # ---- pointwise

    def _pointwise(self, call: Call, operands: Sequence[torch.Tensor], out: torch.Tensor) -> State:
        state = State(out.shape, torch.zeros((), dtype=out.dtype, device=out.device))
        for operand in operands:
            if self.depends(operand):
                others = [t for t in call.operands if t is not operand]
                for slot in self.state(operand).slots:
                    c = self._applied(call, operand, self.state(operand).tensor(slot.coefficient), others)
                    state.add(Slot(slot.map.broadcast(out.shape), c, slot.clean))
                for entries in self.state(operand).broadcast_entries(out.shape):
                    state.entries.append(self._scaled_entries(call, operand, entries, others, out.shape))
        return state

    def _applied(
        self, call: Call, operand: torch.Tensor, c: torch.Tensor, others: Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """The op on a coefficient in place of its operand, and on zeros in place of the others that depend on v."""

        def replace(t: Any) -> Any:
            if t is operand:
                return c
            return torch.zeros((), dtype=t.dtype, device=t.device) if any(t is o for o in others) else t

        args, kwargs = tree_map(replace, (call.args, call.kwargs))
        result: torch.Tensor = call.op(*args, **kwargs)
        return result

    def _scaled_entries(
        self, call: Call, operand: torch.Tensor, entries: Entries, others: Sequence[torch.Tensor], shape: torch.Size
    ) -> Entries:
        """The op on the values of entries; its other operands are read at their rows."""
        rows = torch.from_numpy(entries.rows).to(entries.values.device)

        def replace(t: Any) -> Any:
            if t is operand:
                return entries.values
            if not isinstance(t, torch.Tensor):
                return t
            if any(t is o for o in others):
                return torch.zeros((), dtype=t.dtype, device=t.device)
            return t if t.numel() == 1 else t.expand(shape).reshape(-1).index_select(0, rows)

        args, kwargs = tree_map(replace, (call.args, call.kwargs))
        return Entries(entries.rows, entries.columns, call.op(*args, **kwargs))

    # ---- movement

    def _move(self, call: Call, out: torch.Tensor, which: int | None = None) -> State:
        """A view, or an op that moves elements: it moves maps and coefficients alike."""
        operands = call.operands
        state = State(out.shape, torch.zeros((), dtype=out.dtype, device=out.device))
        states = [self.state(t) for t in operands]
        for group in aligned(states):
            state.add(self._moved_slot(call, operands, states, group, out, which))
        for operand, given in zip(operands, states, strict=True):
            if given.entries:
                source = self._moved_map(call, [operand], [IndexMap(_places(operand.shape))], which).ids
                flat = source.expand(out.shape).reshape(-1).numpy() - 1
                state.entries += [spread(e, flat, operand.numel()) for e in given.entries]
        return state

    def _moved_slot(
        self,
        call: Call,
        operands: Sequence[torch.Tensor],
        states: Sequence[State],
        group: Sequence[Slot | None],
        out: torch.Tensor,
        which: int | None,
    ) -> Slot:
        there = [(t, s, g) for t, s, g in zip(operands, states, group, strict=True) if g is not None]
        maps = [
            IndexMap(torch.zeros((), dtype=torch.int64).expand(t.shape)) if g is None else g.map
            for t, g in zip(operands, group, strict=True)
        ]
        moved = self._moved_map(call, operands, maps, which).broadcast(out.shape)
        numbers = {g.coefficient for _, _, g in there if not isinstance(g.coefficient, torch.Tensor)}
        if len(numbers) == 1 and all(not isinstance(g.coefficient, torch.Tensor) for _, _, g in there):
            return Slot(moved, numbers.pop(), moved.full)
        scalar = there[0][2].coefficient
        if len(there) == 1 and isinstance(scalar, torch.Tensor) and scalar.dim() == 0:
            return Slot(moved, scalar, moved.full)
        given = {id(t): s.full(g) for t, s, g in there}

        def replace(t: Any) -> Any:
            if not isinstance(t, torch.Tensor) or not any(t is o for o in operands):
                return t
            return given[id(t)] if id(t) in given else torch.zeros_like(t)

        c = self._run_move(call, replace)
        clean = all(g.clean or g.map.full for _, _, g in there)
        return Slot(moved, c if which is None else c[which], clean)

    def _run_move(self, call: Call, replace: Any) -> Any:
        if base_name(call.op) in _STRIDED:
            for t in call.operands:
                if not t.is_contiguous():
                    raise self.refusal(call, "it reads the memory of a tensor that is not contiguous")
            inner, replace = replace, lambda t: inner(t).contiguous() if isinstance(t, torch.Tensor) else t
        args, kwargs = tree_map(replace, (call.args, call.kwargs))
        if base_name(call.op) in ("view", "_unsafe_view") and call.has("size"):
            return torch.reshape(*args)
        return call.op(*args, **kwargs)

    def _moved_map(
        self, call: Call, operands: Sequence[torch.Tensor], maps: Sequence[IndexMap], which: int | None
    ) -> IndexMap:
        plain = [a for a in (*call.args, *call.kwargs.values()) if not _has_tensor(a)]
        fixed = tuple(id(t) for t in tensors(call.args) if not self.depends(t))
        key = (call.op, repr(plain), which, fixed, tuple(m for m in maps), tuple(t.shape for t in operands))
        if fixed or key not in self._moved:
            ids = {id(t): m.ids for t, m in zip(operands, maps, strict=True)}
            moved = self._ids_through(call, operands, ids, which)
            if fixed:  # what another tensor says may differ between two calls with the same key
                return IndexMap(moved)
            self._moved[key] = IndexMap(moved)
        return self._moved[key]

    def _ids_through(self, call: Call, operands: Sequence[torch.Tensor], ids: dict[int, Ids], which: int | None) -> Ids:
        def of(t: torch.Tensor) -> Ids:
            return ids[id(t)] if id(t) in ids else torch.zeros((), dtype=torch.int64).expand(t.shape)

        rule = RULES.get(base_name(call.op))
        if rule is not None and not is_view(call.op):
            with self:
                (relation,) = rule(call)
            assert isinstance(relation, Move)
            return relation.run(of)
        moved = self._run_move(call, lambda t: ids.get(id(t), t) if isinstance(t, torch.Tensor) else t)
        out: Ids = moved if which is None else moved[which]
        return out

    # ---- sums

    def summed(self, operand: torch.Tensor, out: torch.Tensor, dims: Sequence[int], keepdim: bool) -> State:
        """The sum over ``dims``: a slot for each summand where they are few, entries where they are many."""
        given = self.state(operand)
        state = State(out.shape, torch.zeros((), dtype=out.dtype, device=out.device))
        gone = sorted({d % operand.dim() for d in dims}) if operand.dim() else []
        count = math.prod(operand.shape[d] for d in gone)
        for slot in given.slots:
            if _same_along(slot.map.ids, gone):
                c = given.full(slot).sum(gone, keepdim=keepdim) if gone else given.tensor(slot.coefficient)
                index = _select(slot.map.ids, gone, [0] * len(gone), keepdim)
                state.add(Slot(IndexMap(index), c, slot.clean))
            elif count * len(given.slots) <= _SPLIT:
                for place in itertools.product(*(range(operand.shape[d]) for d in gone)):
                    part = _select_coefficient(slot.coefficient, given.shape, gone, place, keepdim)
                    state.add(Slot(IndexMap(_select(slot.map.ids, gone, place, keepdim)), part, slot.clean))
            else:
                state.entries.append(_summed(given._as_entries(slot), operand.shape, gone))
        state.entries += [_summed(entries, operand.shape, gone) for entries in given.entries]
        return state

    # ---- scatters

    def _scatter(self, call: Call, relations: Sequence[Relation], out: torch.Tensor) -> State:
        state = State(out.shape, torch.zeros((), dtype=out.dtype, device=out.device))
        scale = scaled(SCATTERS[base_name(call.op)](call))
        for relation in relations:
            if isinstance(relation, Pointwise):
                state.add_all(self.state(relation.operand))
            elif isinstance(relation, Scatter):
                target = relation.target.reshape(-1)
                if relation.replaces:
                    _forget(state, target)
                for entries in self.state(relation.operand).all_entries():
                    rows = target.numpy()[entries.rows]
                    kept = np.flatnonzero(rows >= 0)
                    moved = Entries(rows, entries.columns, entries.values)
                    moved = moved if kept.size == rows.size else entries.picked(kept, rows[kept])
                    values = scale(moved.values)
                    assert isinstance(values, torch.Tensor)
                    state.entries.append(Entries(moved.rows, moved.columns, values).coalesced())
            else:
                raise self.refusal(call, "its sums are not taken apart")
        return state


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

_STRIDED = frozenset({"as_strided", "as_strided_scatter"})


def _plain(call: Call) -> float:
    if call.has("reduce"):
        raise CannotAccumulateError("scatter", "only sums and plain writes are followed")
    return 1.0


def _unscaled(call: Call) -> float:
    if call["scale_grad_by_freq"]:
        raise CannotAccumulateError("embedding_dense_backward", "scale_grad_by_freq is not followed")
    return 1.0


def _forget(state: State, target: torch.Tensor) -> None:
    """What is overwritten depends on nothing any more."""
    hit = target[target >= 0]
    for k, slot in enumerate(state.slots):
        ids = slot.map.ids.clone(memory_format=torch.contiguous_format)
        ids.view(-1)[hit] = 0
        state.slots[k] = Slot(IndexMap(ids), slot.coefficient, clean=False)
    gone = np.zeros(state.shape.numel(), bool)
    gone[hit.numpy()] = True
    for k, entries in enumerate(state.entries):
        kept = np.flatnonzero(~gone[entries.rows])
        state.entries[k] = entries.picked(kept, entries.rows[kept])


def _places(shape: torch.Size) -> Ids:
    return torch.arange(1, shape.numel() + 1).reshape(shape)


def _has_tensor(value: Any) -> bool:
    return bool(tensors((value,)))


def _same_along(ids: Ids, dims: Sequence[int]) -> bool:
    """Whether all summands depend on the same input."""
    for d in dims:
        if ids.shape[d] != 1 and ids.stride(d) != 0 and not bool((ids == ids.narrow(d, 0, 1)).all()):
            return False
    return all(ids.shape[d] > 0 for d in dims)


def _select(t: torch.Tensor, dims: Sequence[int], place: Sequence[int], keepdim: bool) -> torch.Tensor:
    """``t`` at one place along ``dims``."""
    for d, at in sorted(zip(dims, place, strict=True), reverse=True):
        t = t.narrow(d, at, 1) if keepdim else t.select(d, at)
    return t


def _select_coefficient(
    c: Coefficient, shape: torch.Size, dims: Sequence[int], place: Sequence[int], keepdim: bool
) -> Coefficient:
    if not isinstance(c, torch.Tensor) or c.dim() == 0:
        return c
    return _select(c.expand(shape), dims, place, keepdim)


def _summed(entries: Entries, shape: torch.Size, gone: Sequence[int]) -> Entries:
    kept = [1 if d in gone else s for d, s in enumerate(shape)]
    target = torch.arange(int(np.prod(kept))).reshape(kept).expand(shape).reshape(-1).numpy()
    return Entries(target[entries.rows], entries.columns, entries.values).coalesced()
