"""The second reading of the tangent program: coefficients instead of index sets.

In the tangent program every op is linear in what depends on v, so no derivative is needed here: an op's new coefficient
is that op applied to its old one, and its new index map is the old one moved as the op moves. The rules say
which way an op goes, the same ones that detection reads:

    Pointwise   the op on the coefficient, the map stays            mul(c, cos x)                ``pointwise``
    Move        the op on the coefficient, the op on the map        roll(c), roll(map)           ``movement``
    sums        a slot for each summand, equal maps merged                         ``sums``
    Scatter     entries with new rows                                              ``scatters``
    the rest    written in simpler ops first                                       ``rewrites``
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeGuard

import torch

from ..._base.errors import first_line
from ..._base.words import Args, Kwargs, OpResult, UserFunction
from ..._tangent.call import Call, base_name
from ..._tangent.relations import Ids, Move, Pointwise, Relation, Scatter
from ..._tangent.rules import RULES
from ..._tangent.trace import decomposition, is_pointwise, is_view
from ..._tangent.values import ValueTrace, tensors
from ..coefficients.compaction import Plans, compact
from ..coefficients.index_map import IndexMap
from ..coefficients.slots import Slot, State
from ..errors import NOT_FOLLOWED, CannotAccumulateError
from ..tape.recorder import Recorder
from ..tensor_map import TensorMap
from .differentiable import DIFFERENTIABLE
from .movement import move
from .pointwise import pointwise
from .rewrites import REWRITES
from .rewrites.strided import as_strided
from .scaling import SCALINGS
from .scatters import SCATTERS, WRITES, forgotten, scatter
from .states import state_of


class Reader(ValueTrace):
    """A mode, used inside its recorder: ``seed`` the tensors of v, run, then ask for the ``state`` of the results."""

    def __init__(self, recorder: Recorder, limit: int, deadline: float = math.inf) -> None:
        super().__init__()
        self.recorder, self._limit, self._deadline = recorder, limit, deadline
        self._states: TensorMap[State] = TensorMap()
        self.moved: dict[Any, IndexMap] = {}
        self._plans: Plans = {}
        self.refused: CannotAccumulateError | None = None  # kept: f may catch the exception
        self.numbers = self.coefficients = 0  # of all tensors that depend on v, views aside

    def seed(self, t: torch.Tensor, ids: Ids) -> None:
        """Make t a part of v."""
        state = state_of(t)
        state.add(Slot(IndexMap(ids), 1.0, clean=False))
        self._states[t] = state

    def state(self, t: torch.Tensor) -> State:
        """Return what t depends on."""
        return self._states.get(t) or state_of(t)

    def depends(self, t: object) -> TypeGuard[torch.Tensor]:
        """Whether t depends on v."""
        return isinstance(t, torch.Tensor) and self._states.get(t) is not None

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> OpResult:
        try:
            return self._read(func, args, kwargs or {})
        except CannotAccumulateError as refusal:  # the recorder's do not know where f is
            self.refused = self.refused or refusal.at(self.line())
            raise self.refused from refusal.__cause__

    def _read(self, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> OpResult:
        """Run an op, and note what its results depend on."""
        inputs = tensors(args) + tensors(kwargs.values()) if kwargs else tensors(args)
        if not any(map(self.depends, inputs)):
            return self._aside(func, args, kwargs, inputs)
        simpler = self._simpler(func)
        call = self._call(func, args, kwargs)
        if simpler is not None:
            with self._followable(call), self:
                out = simpler(*args, **kwargs)
            if out is not NotImplemented:
                return out
        if any(t.layout is not torch.strided for t in call.operands):
            raise self.refusal(call, "sparse tensors are not followed")
        call.out = self.run(func, args, kwargs, inputs)
        with self._followable(call):
            self._follow(call)
        return call.out

    def _follow(self, call: Call) -> None:
        """Take what a call returns to depend on v as its operands do."""
        outs = [t for t in tensors((call.out,)) if t.is_floating_point() or t.is_complex()]
        for t, state in zip(outs, self._through(call, outs), strict=True):
            compact(state, self._plans)
            if time.perf_counter() > self._deadline:
                raise self.refusal(call, "reading f takes longer than a program for its entries could save")
            if state.size > self._limit:
                raise self.refusal(call, f"{state.size:,} coefficients are more than colored products would compute")
            if state.slots or state.entries:
                self._states[t] = state
                if not is_view(call.op):
                    self.numbers += t.numel()
                    self.coefficients += state.size

    @contextmanager
    def _followable(self, call: Call) -> Iterator[None]:
        """Whatever goes wrong inside, f itself having run, ends the reading and names the op."""
        try:
            yield
        except CannotAccumulateError:
            raise
        except Exception as error:  # f's op ran: what fails is how it is followed, and colors need no following
            why = f"{NOT_FOLLOWED} ({type(error).__name__}: {first_line(error)})"
            raise self.refusal(call, why) from error

    def _aside(self, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs, inputs: list[torch.Tensor]) -> OpResult:
        """Run an op that does not depend on v, so that autograd can differentiate all of its results."""
        out, name = self.run(func, args, kwargs, inputs), base_name(func)
        if name not in DIFFERENTIABLE and (name != "as_strided" or all(map(self.recorder.is_constant, inputs))):
            return out
        call = self._call(func, args, kwargs)
        call.out = out
        with self._followable(call), self:  # what was run first leaves the program again, where nothing needs it
            written = DIFFERENTIABLE.get(name, as_strided)(call)
        if name != "as_strided":
            return written
        if written is NotImplemented:
            raise self.refusal(call, "it reads memory that is not that of one dense tensor")
        self.recorder.equate(out, written)  # in a program, tensors have other memory; around it, out is still a view
        return out

    def refusal(self, call: Call, why: str) -> CannotAccumulateError:
        """Return the error that ends the reading at this call."""
        return CannotAccumulateError(base_name(call.op), why, self.line())

    def following(self) -> AbstractContextManager[object]:
        """Return a context in which ops are read as part of the program."""
        return self

    def _simpler(self, func: torch._ops.OpOverload) -> UserFunction | None:
        """Return the op written in simpler ones, which are read instead; None where it is read itself."""
        ours = REWRITES.get(base_name(func))
        if ours is None:
            if base_name(func) in SCALINGS:
                return None
            return decomposition(func)  # type: ignore[no-any-return]  # torch's tables have no types
        return lambda *args, **kwargs: ours(self._call(func, args, kwargs))

    def _call(self, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> Call:
        return Call(func, args, kwargs, self.depends, self.is_marked, self.choice)

    def _through(self, call: Call, outs: Sequence[torch.Tensor]) -> list[State]:
        """Return what each output of the call depends on."""
        name = base_name(call.op)
        if name in SCALINGS:
            return [SCALINGS[name](self, call, outs[0])]
        if is_view(call.op):
            return [
                move(self, call, out, k if isinstance(call.out, (tuple, list)) else None) for k, out in enumerate(outs)
            ]
        rule = RULES.get(name)
        if rule is None:
            if not is_pointwise(call.op):
                raise self.refusal(call, "no rule says how it moves its operands")
            return [pointwise(self, call, call.operands, out) for out in outs]
        with self:  # views that a rule takes are views like others
            answer = rule(call)
        answers = answer if isinstance(answer, tuple) else (answer,) * len(outs)
        return [self._related(call, relations, out) for relations, out in zip(answers, outs, strict=True)]

    def _related(self, call: Call, relations: Sequence[Relation], out: torch.Tensor) -> State:
        if all(isinstance(r, Pointwise) for r in relations):
            if base_name(call.op) in WRITES and relations:
                return forgotten(self, call, out)
            return pointwise(self, call, [r.operand for r in relations if isinstance(r, Pointwise)], out)
        if len(relations) == 1 and isinstance(relations[0], Move):
            return move(self, call, out)
        if base_name(call.op) in SCATTERS and any(isinstance(r, Scatter) for r in relations):
            return scatter(self, call, relations, out)
        raise self.refusal(call, "its sums are not taken apart")
