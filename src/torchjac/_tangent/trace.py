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

from functools import cache
from typing import Any

import torch

from .._base.words import Args
from .call import Call, base_name, written
from .carry import carry
from .reading import Reading
from .relations import Everything, Ids, Pointwise, Relations
from .rules import RULES
from .shadow import Shadow, has_memory
from .values import ValueTrace, tensors

_NO_RULE = "no rule for this op: each of its outputs is taken to depend on all of its inputs"
_WIDENED = "values computed from x choose: each output is taken to depend on all that could be chosen"


class Trace(ValueTrace):
    """``seed`` the tensors of v, ``mark`` those of x, run the computation inside, then ``shadow.read`` its results.

    ``before`` is a trace of the computation that came first: its marks, decisions, notes and lines hold here too.
    """

    def __init__(self, reading: Reading, before: ValueTrace | None = None) -> None:
        super().__init__()
        self.reading = reading
        self.shadow = Shadow(reading)
        if before is not None:
            self._marked, self._choices, self._lines = before._marked, before._choices, before._lines
            self._born, self.local = before._born, before.local
            self.names.update(before.names)
            self._costs.update(before._costs)

    def seed(self, t: torch.Tensor, ids: Ids) -> None:
        """Let t be a part of v; ``ids`` of t's shape say which."""
        self.shadow.write(t, ids)

    def __torch_dispatch__(self, func: Any, types: Any, args: Args = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        inputs = tensors(args) + tensors(kwargs.values())
        if not any(map(self.shadow.covers, inputs)):
            return self.run(func, args, kwargs, inputs)
        simpler = decomposition(func)
        if simpler is not None:
            with self:
                out = simpler(*args, **kwargs)
            if out is not NotImplemented:
                return out
        call = Call(func, args, kwargs, self.shadow.covers, self.is_marked, self.choice)
        operands = call.operands
        before = [self.shadow.read(t) for t in operands] if self.reading.curious else []
        call.out = self.run(func, args, kwargs, inputs)
        if not is_view(func):
            self._follow(call, operands, before)
        return call.out

    def _follow(self, call: Call, operands: list[torch.Tensor], before: list[Ids]) -> None:
        """Note what the outputs of a call depend on."""
        outs = [t for t in tensors((call.out,)) if _carries(t)]
        if not outs:  # some ops only write to their arguments
            outs = [t for t in written(call.op, call.args, call.kwargs) if _carries(t)]
        if not outs:
            return
        relations = self._relations(call, operands, len(outs))
        new = [carry(r, t.shape, self.shadow.read, self.reading) for r, t in zip(relations, outs, strict=True)]
        if self.reading.curious:
            new = [self.reading.arrive(base_name(call.op), self.line(), before, ids) for ids in new]
        reason = self._why_larger(call)
        if reason:
            most = max((self.reading.entries(self.shadow.read(t)) for t in operands), default=0)
            added = sum(max(self.reading.entries(ids) - most, 0) for ids in new)
            if added or reason == _NO_RULE:
                self.note(base_name(call.op), reason, added)
        for t, ids in zip(outs, new, strict=True):
            self.shadow.write(t, ids)
        self.reading.tidy(self.shadow.all_ids)

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
        """Why what was found for a call may be more than what is there; empty where it is not."""
        if base_name(call.op) not in RULES and not is_pointwise(call.op):
            return _NO_RULE
        return _WIDENED if call.widened else ""


def _carries(t: torch.Tensor) -> bool:
    """Whether derivatives can pass through t."""
    return has_memory(t) and (t.is_floating_point() or t.is_complex())


@cache
def is_pointwise(op: torch._ops.OpOverload) -> bool:
    """Whether the op is tagged so, and takes tensors rather than lists of them (which need not fit each other)."""
    lists = any("List[Tensor]" in str(argument.type) for argument in op._schema.arguments)
    return torch.Tag.pointwise in op.tags and not lists


@cache
def is_view(op: torch._ops.OpOverload) -> bool:
    """Whether every output aliases an input whose numbers the op leaves alone."""
    schema = op._schema
    if torch.Tag.inplace_view in op.tags:
        return True
    return bool(schema.returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)


def decomposition(op: torch._ops.OpOverload) -> Any:
    """How PyTorch writes an op without a rule in simpler ones; None where a rule or a view says more."""
    if base_name(op) in RULES or is_pointwise(op):
        return None
    return _decomposition_of(op)


@cache
def _decomposition_of(op: torch._ops.OpOverload) -> Any:
    if op.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        return op.decompose  # some of these only look like views: reshape copies when it must
    from torch._decomp import decomposition_table

    return None if is_view(op) else decomposition_table.get(op)
