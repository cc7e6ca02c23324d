"""The trace: run a computation that is linear in v, and note for every number in memory what of v it depends on.

A dispatch mode sees every op below autograd. PyTorch's own derivative formulas have by then turned each nonlinear op
into products of a tangent with something constant, so that few kinds of op remain (``relations``), and what
depends on v is exactly what automatic differentiation computes from v. For each op that touches v:

    view                    nothing to do, it shares the storage (``shadow``)
    op with a rule          the rule names the relations, ``carry`` applies them
    op tagged pointwise     out[i] depends on the operands' [i]
    op with a decomposition the decomposition is traced instead
    any other op            every output depends on all that any input does: sound, noted

Beside v, a coarse mark says which storages hold values computed from x: a Python decision on such a value makes what
is found hold for this x only.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .._pattern import Note
from .call import Call, base_name
from .carry import carry
from .reading import Reading
from .relations import Everything, Pointwise, Relations
from .rules import RULES, VALUE_FREE, VALUE_READERS
from .shadow import Shadow, memory
from .source import user_line


class Trace(TorchDispatchMode):
    """``seed`` the tensors of v, ``mark`` those of x, run the computation inside, then ``shadow.read`` its results."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        self.reading = reading
        self.shadow = Shadow(reading.union)
        self.notes: dict[Note, None] = {}
        self.local = False
        self._marked: WeakKeyDictionary[torch.UntypedStorage, bool] = WeakKeyDictionary()

    def seed(self, t: torch.Tensor, ids: torch.Tensor) -> None:
        """Let t be a part of v; ``ids`` of t's shape say which."""
        self.shadow.write(t, ids)

    def mark(self, t: torch.Tensor) -> None:
        """Let t hold values that depend on x."""
        self._marked[memory(t).untyped_storage()] = True

    def adopt(self, earlier: Trace) -> None:
        """Go on from a trace of the computation before this one: its marks, decisions and notes hold here too."""
        self._marked, self.local = earlier._marked, earlier.local
        self.notes.update(earlier.notes)

    def is_marked(self, t: torch.Tensor) -> bool:
        """Whether t may hold values that depend on x."""
        if torch._is_zerotensor(t) or t.device.type == "meta":
            return False
        return memory(t).untyped_storage() in self._marked

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = _tensors(args) + _tensors(kwargs.values())
        marked = any(map(self.is_marked, inputs))
        if marked:
            self._look_for_decisions(func)
        if not any(map(self.shadow.covers, inputs)):
            out = func(*args, **kwargs)
            if marked and base_name(func) not in VALUE_FREE:
                self._mark_all(out)
            return out
        out, known = self._follow(Call(func, args, kwargs, self.shadow.covers, self.is_marked))
        if marked and known and base_name(func) not in VALUE_FREE:
            self._mark_all(out)
        return out

    def _follow(self, call: Call) -> tuple[Any, bool]:
        """Run the op and note what its outputs depend on; False if its decomposition was traced in its place."""
        op = call.op
        rule = RULES.get(base_name(op))
        if rule is None and _is_view(op):
            return op(*call.args, **call.kwargs), True
        relations: tuple[Relations, ...]
        pointwise = rule is None and torch.Tag.pointwise in op.tags
        if rule is None and not pointwise:
            decomposition = _decomposition(op)
            if decomposition is not None:
                with self:
                    out = decomposition(*call.args, **call.kwargs)
                if out is not NotImplemented:
                    return out, False
        operands = call.operands
        call.out = op(*call.args, **call.kwargs)
        outs = [t for t in _tensors((call.out,)) if _carries(t)]
        if not outs:
            return call.out, True
        if pointwise:
            relations = (_each(Pointwise, operands),) * len(outs)
        elif rule is not None:
            answer = rule(call)
            relations = answer if isinstance(answer, tuple) else (answer,) * len(outs)
        else:
            relations = (_each(Everything, operands),) * len(outs)
            self.note(base_name(op), "no rule for this op: each of its outputs is taken to depend on all of its inputs")
        new = [carry(r, t.shape, self.shadow.read, self.reading) for r, t in zip(relations, outs, strict=True)]
        for t, ids in zip(outs, new, strict=True):
            self.shadow.write(t, ids)
        return call.out, True

    def note(self, op: str, reason: str) -> None:
        """Remember, once for each line of the user's code, what made the result larger or local."""
        self.notes.setdefault(Note(op, reason, user_line()))

    def _mark_all(self, out: Any) -> None:
        for t in _tensors((out,)):
            if not torch._is_zerotensor(t) and t.device.type != "meta":
                self.mark(t)

    def _look_for_decisions(self, op: Any) -> None:
        if base_name(op) in VALUE_READERS:
            self.local = True
            self.note(base_name(op), "a value computed from x decides what runs: holds where the same is decided")


def _each(kind: type[Pointwise] | type[Everything], operands: list[torch.Tensor]) -> Relations:
    return [kind(t) for t in operands]


def _tensors(values: Any) -> list[torch.Tensor]:
    """The tensors among the values and in lists among them (op schemas nest no deeper)."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(t for t in value if isinstance(t, torch.Tensor))
    return found


def _carries(t: torch.Tensor) -> bool:
    """Whether derivatives can pass through t."""
    return (t.is_floating_point() or t.is_complex()) and not torch._is_zerotensor(t) and t.device.type != "meta"


@cache
def _is_view(op: torch._ops.OpOverload) -> bool:
    """Whether every output aliases an input that the op does not write to."""
    schema = op._schema
    return bool(schema.returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)


@cache
def _decomposition(op: torch._ops.OpOverload) -> Any:
    from torch._decomp import decomposition_table

    table = decomposition_table.get(op)
    if table is None and op.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
        return op.decompose
    return table
