"""The plan of a batch Jacobian, made once for a function and kept as long as the function lives."""

from __future__ import annotations

from typing import Literal, TypedDict

import torch

from .._base.errors import OptionError, SignatureError
from .._base.words import Args, Check, UserFunction, choose
from .._function.flat import Argnums, FlatFunction
from .batch_cache import PlanCache
from .jacobian import JacobianPlan, plan_for
from .kinds.batch import BatchJacobian
from .options import CompileOptions, Given, Options


class BatchOptions(TypedDict, total=False):
    """The keyword arguments of ``batch_jacobian``; see ``Options`` for their meaning."""

    mode: Literal["auto", "forward", "reverse"]
    has_aux: bool
    check: Check
    memory: int | str | None
    compile: CompileOptions


def batch_plan(
    f: UserFunction,
    args: Args,
    argnums: Argnums,
    dims: int,
    batched: bool | tuple[bool, ...],
    given: Given,
) -> BatchPlan:
    """Return the plan for f at arguments like ``args``: the earlier one, if f is the same object."""
    for name in given:
        if name not in BatchOptions.__annotations__:
            known = ", ".join(BatchOptions.__annotations__)
            raise OptionError(f"batch_jacobian has no option {name!r}", expected=f"one of batch_dims, batched, {known}")
    options = Options.parse(given)
    choose("mode", options.mode, Literal["auto", "forward", "reverse"])
    for_each = _one_each(batched, len(args))
    if not isinstance(dims, int) or dims < 1:
        raise OptionError(f"batch_dims={dims!r}", expected="how many dimensions come first: 1 or more")
    if options.check and torch._C._functorch.peek_interpreter_stack() is not None:
        raise OptionError(
            f"batch_jacobian with check={options.check!r} inside a transform of torch.func",
            expected="check=False, after the same f was checked outside",
            why="f cannot be traced inside of a function that is being transformed",
        )
    # keys are compared, not hashed: options may hold a dict
    key = (tuple(argnums) if isinstance(argnums, (list, tuple)) else argnums, dims, for_each, options)
    return _PLANS.of(
        f, key, lambda plan: plan.fits(args), lambda g: BatchPlan(g, args, argnums, dims, for_each, options)
    )


def _one_each(batched: object, count: int) -> tuple[bool, ...]:
    each = (batched,) * count if isinstance(batched, bool) else batched
    if not isinstance(each, (tuple, list)) or len(each) != count or not all(isinstance(b, bool) for b in each):
        raise OptionError(
            f"batched={batched!r} for {count} argument{'s' * (count != 1)}",
            expected="True, or True or False for each argument",
            instead=f"batched={(True, *[False] * (count - 1))!r}",
        )
    return tuple(each)


class BatchPlan(JacobianPlan):
    """The plan behind ``batch_jacobian``; ``batched`` says for each argument whether it has the batch dimensions."""

    def __init__(
        self,
        f: UserFunction,
        args: Args,
        argnums: Argnums,
        dims: int,
        batched: tuple[bool, ...],
        options: Options,
    ) -> None:
        function = FlatFunction(f, args, argnums, options.has_aux)
        self._take_over(plan_for(BatchJacobian(dims, batched), function, args, options))

    def fits(self, args: Args) -> bool:
        """Return whether ``args`` have the signature that the plan was made for."""
        try:
            self._function.check(args)
        except SignatureError:
            return False
        return True


_PLANS: PlanCache[BatchPlan] = PlanCache()
