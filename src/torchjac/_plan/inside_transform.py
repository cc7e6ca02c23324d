"""Derivatives inside of a transform of torch.func, where no plan can be made: f cannot be traced there."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.utils._pytree import PyTree

from .._base.errors import OptionError
from .._base.words import Args, UserFunction
from .._function.flat import Argnums
from .options import Options


def refuse_a_plan(what: str) -> None:
    """Raise OptionError where a transform is at work around this: ``what`` traces f, and cannot."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        raise OptionError(
            f"{what} inside a transform of torch.func",
            expected="a plan that was made outside: its call and its values() can be transformed",
            why="f cannot be traced inside of a function that is being transformed",
            instead="plan = plan_jacobian(f, x) outside, and torch.vmap(plan) or torch.func.grad of plan.values",
        )


def by_torch_func(f: UserFunction, args: Args, argnums: Argnums, options: Options, hessian: bool = False) -> PyTree:
    """The dense derivative by torch.func alone; OptionError for what only a plan can give."""
    detected = replace(options, sparsity="detect") if options.sparsity is None else options
    plain = type(options)(has_aux=options.has_aux and not hessian, check=options.check, mode=options.mode)
    if detected != plain or options.mode not in ("auto", "forward", "reverse"):
        refuse_a_plan("a layout, pattern or other option that takes a plan,")
    if hessian:
        return torch.func.hessian(f, argnums)(*args)
    derivative = torch.func.jacfwd if options.mode == "forward" else torch.func.jacrev
    return derivative(f, argnums, has_aux=options.has_aux)(*args)
