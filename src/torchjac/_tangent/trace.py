"""The trace: run a computation that is linear in v, and note for every number in memory what of v it depends on.

A dispatch mode sees every op below autograd. PyTorch's own derivative formulas have by then turned each nonlinear op
into products of a tangent with something constant, so that few kinds of op remain (``relations``), and what
depends on v is exactly what automatic differentiation computes from v. For each op that touches v:

    view                    nothing to do, it shares the storage (``shadow``)
    op with a rule          the rule names the relations, ``carry`` applies them
    op tagged pointwise     out[i] depends on the operands' [i]
    op with a decomposition the decomposition is traced instead
    any other op            every output depends on all that any input does: sound, noted
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch

from .._base.errors import MemoryLimitError
from .._base.words import Args, Kwargs, OpResult
from .call import Call, base_name, returns_views, written
from .carry import carry
from .chosen import PUTS, TAKES, Choosers
from .reading import Reading
from .relations import Everything, Ids, Pointwise, Relations
from .rules import RULES
from .selected import Choice, Rows
from .selection import SelectedShadow, Selections
from .shadow import Shadow, has_memory, memory
from .values import ValueTrace, tensors

is_view = returns_views

_TIDY_EVERY = 4  # ops

_NO_RULE = "no rule for this op: each of its outputs is taken to depend on all of its inputs"
_WIDENED = "values computed from x choose: each output is taken to depend on all that could be chosen"


class Trace(ValueTrace):
    """A mode: ``seed`` the tensors of v, ``mark`` those of x, run the computation inside, ``shadow.read`` its results.

    ``before`` is a trace of the computation that came first: its marks, decisions, notes and lines hold here too.
    """

    def __init__(self, reading: Reading, before: ValueTrace | None = None) -> None:
        super().__init__(Choosers() if before is None else before.choosers)
        assert self.choosers is not None, "a trace before this one, without choosers"
        self.reading = reading
        self.shadow = SelectedShadow(reading, self._read_as_all)
        self._selections = Selections(self.shadow, self.choosers, reading)
        self._untidy = 0
        self.followed = (self.shadow.cells, self.shadow.selected)
        if before is not None:
            self._marked, self._choices, self._lines = before._marked, before._choices, before._lines
            self._born, self.local, self._counted = before._born, before.local, before._counted
            self.names.update(before.names)
            self._costs.update(before._costs)
            self._others, self.others_choose = before._others, before.others_choose

    def seed(self, t: torch.Tensor, ids: Ids) -> None:
        """Make t a part of v; ``ids``, of t's shape, say which part."""
        self.shadow.write(t, ids)

    def covers(self, t: torch.Tensor) -> bool:
        """Whether some slot of t's storage depends on v."""
        if torch._is_zerotensor(t) or t.device.type == "meta":
            return False
        storage = (t if t.layout is torch.strided else memory(t)).untyped_storage()
        return any(storage in kept for kept in self.followed)

    def follow(self, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs, inputs: list[torch.Tensor]) -> OpResult:
        """Run an op that is given what depends on v, and note what its results depend on."""
        simpler = decomposition(func)
        if simpler is not None:
            with self:
                out = simpler(*args, **kwargs)
            if out is not NotImplemented:
                return out
        call = Call(func, args, kwargs, self.covers, self.is_marked, self.choice)
        # call.operands looks at arguments by name, to leave out= out
        operands = call.operands if "out" in kwargs else self._distinct(inputs)
        before = [self._seen(t) for t in operands] if self.reading.curious else []
        call.out = self.run(func, args, kwargs, inputs)
        if not (is_view(func) and _aliases(call.out, inputs)):
            try:
                self._follow(call, operands, before)
            except MemoryLimitError as error:
                raise error.at(base_name(func), self.line()) from None
        return call.out

    def _distinct(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """The inputs that depend on v, each once."""
        found: list[torch.Tensor] = []
        for t in inputs:
            if self.covers(t) and not any(t is known for known in found):
                found.append(t)
        return found

    def _follow(self, call: Call, operands: list[torch.Tensor], before: list[Ids]) -> None:
        """Note what the outputs of a call depend on."""
        outs = [call.out] if isinstance(call.out, torch.Tensor) else tensors((call.out,))
        outs = [t for t in outs if _carries(t)]
        if not outs:  # some ops only write to their arguments
            outs = [t for t in written(call.op, call.args, call.kwargs) if _carries(t)]
        if not outs:
            return
        name = base_name(call.op)
        selects = len(self.shadow.selected) > 0 or name in TAKES or name in PUTS
        if selects and self._follow_selected(call, operands, outs, before):
            return
        relations = self._relations(call, operands, len(outs))
        plain = not self.shadow.selected  # then it is the shadow that it is a kind of
        read = partial(Shadow.read, self.shadow) if plain else self.shadow.read
        new = [carry(r, t.shape, read, self.reading) for r, t in zip(relations, outs, strict=True)]
        if self.reading.curious:
            new = [self.reading.arrive(name, self.line(), before, ids) for ids in new]
        reason = self._why_larger(call)
        if reason:
            most = max((self.reading.entries(self.shadow.read(t)) for t in operands), default=0)
            added = sum(max(self.reading.entries(ids) - most, 0) for ids in new)
            if added or reason == _NO_RULE:
                self.note(base_name(call.op), reason, added)
        if call.widened:
            self._widened(call, outs)
        write = partial(Shadow.write, self.shadow) if plain and not self.shadow.selected else self.shadow.write
        for t, ids in zip(outs, new, strict=True):
            write(t, ids)
        self._tidy()

    def _tidy(self) -> None:
        """Let the reading compact its tables, now and then."""
        self._untidy += 1
        if self._untidy % _TIDY_EVERY == 0:
            self.reading.tidy(self.shadow.all_ids)

    def _follow_selected(
        self, call: Call, operands: list[torch.Tensor], outs: list[torch.Tensor], before: list[Ids]
    ) -> bool:
        """Follow a call that takes, keeps or puts back what x chooses; False if it does neither."""
        taken = self._selections.take(call, self.line) if len(outs) == 1 and not outs[0].is_complex() else None
        if taken is not None:
            self._write([(outs[0], *taken)], call, before)
            return True
        put = self._selections.put(call, self.line) if len(outs) == 1 else None
        if put is not None:
            self._write([(outs[0], None, put)], call, before)
            return True
        rows = self._selections.kept(operands)
        if rows is None:
            return False
        relations = self._relations(call, operands, len(outs))
        seen = [self._selections.through(rows, r, t) for r, t in zip(relations, outs, strict=True)]
        if any(ids is None for ids in seen):
            return False
        self._write([(t, rows.choice, ids) for t, ids in zip(outs, seen, strict=True) if ids is not None], call, before)
        return True

    def _write(self, found: list[tuple[torch.Tensor, Choice | None, Ids]], call: Call, before: list[Ids]) -> None:
        for t, choice, ids in found:
            if self.reading.curious:
                ids = self.reading.arrive(base_name(call.op), self.line(), before, ids)
            if choice is None:
                self.shadow.write(t, ids)
            else:
                self.shadow.write_places(t, choice, ids)
        self._tidy()

    def _seen(self, t: torch.Tensor) -> Ids:
        places = self.shadow.places(t)
        return self.shadow.read(t) if places is None else places

    def _read_as_all(self, rows: Rows, more: int) -> None:
        """A selected tensor is taken for all that could have been chosen."""
        choice = rows.choice
        if more > 0:
            self.note(choice.op, _WIDENED, more, choice.line)
        if choice.decides or (rows.shape[choice.dim] == 0 and rows.ids.any()):
            self.decide("nonzero" if choice.decides else choice.op, choice.line)

    def _widened(self, call: Call, outs: list[torch.Tensor]) -> None:
        """A rule was told that an index may be any: not so where positions were read, or there is none."""
        read = [self.choosers.positions(t) for t in tensors(call.args)] if self.choosers is not None else []
        for positions in read:
            if positions is not None:
                self.decide("nonzero", positions.line)
        if any(t.numel() == 0 for t in (*call.operands, *outs)):
            self.decide(base_name(call.op))

    def _relations(self, call: Call, operands: list[torch.Tensor], outputs: int) -> tuple[Relations, ...]:
        """For each floating point output of the call, how it depends on the operands."""
        name = base_name(call.op)
        rule = RULES.get(name)
        if rule is not None:
            answer = rule(call)
            return answer if isinstance(answer, tuple) else (answer,) * outputs
        if is_pointwise(call.op):
            pointwise: Relations = [Pointwise(t) for t in operands]
            return (pointwise,) * outputs
        everything: Relations = [Everything(t) for t in operands]
        return (everything,) * outputs

    def _why_larger(self, call: Call) -> str:
        """Return why the relations of a call may be larger than the truth; empty where they are not."""
        if base_name(call.op) not in RULES and not is_pointwise(call.op):
            return _NO_RULE
        return _WIDENED if call.widened else ""


def _carries(t: torch.Tensor) -> bool:
    """Whether derivatives can pass through t."""
    known = not torch._is_zerotensor(t) and t.device.type != "meta"
    return known and (t.is_floating_point() or t.is_complex())


def _aliases(out: Any, inputs: list[torch.Tensor]) -> bool:
    """Whether every result is memory of an input; ``contiguous`` and ``to`` may copy, whatever their schemas say."""
    known = {memory(t).untyped_storage()._cdata for t in inputs if has_memory(t)}
    return all(memory(t).untyped_storage()._cdata in known for t in tensors((out,)) if has_memory(t))


@cache
def is_pointwise(op: torch._ops.OpOverload) -> bool:
    """Whether the op is tagged pointwise, and takes tensors rather than lists of them (which need not fit)."""
    lists = any("List[Tensor]" in str(argument.type) for argument in op._schema.arguments)
    return torch.Tag.pointwise in op.tags and not lists


def decomposition(op: torch._ops.OpOverload) -> Any:
    """Return how PyTorch writes the op in simpler ones; None for a pointwise op, one with a rule, or a view."""
    if base_name(op) in RULES or is_pointwise(op):
        return None
    return _decomposition_of(op)


@cache
def _decomposition_of(op: torch._ops.OpOverload) -> Any:
    if op.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        return op.decompose  # some of these only look like views: reshape copies when it must
    from torch._decomp import decomposition_table

    return None if is_view(op) else decomposition_table.get(op)
