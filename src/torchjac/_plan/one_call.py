"""One Jacobian, of a function that is not differentiated again: f runs once where its Jacobian is dense.

A plan is for many calls. A small dense Jacobian takes less time than to make one: its rows are computed and checked by
the run that tells how many there are. Whatever is not that simple goes on to a plan, which takes over the run.
"""

from __future__ import annotations

from typing import Any

import torch

from .._base.random_state import random_numbers
from .._base.words import Args, UserFunction
from .._detection.dense_or_not import is_cheap
from .._function.flat import Argnums, FlatFunction, ordinary, refuse_complex
from .._matrices.pattern import SparsityPattern
from .._products.chunk import chunk_size
from .._products.rounding import near
from .._products.run import Run
from .jacobian import JacobianPlan
from .options import Options
from .result import Assembly

_ALONE = 4  # rows take no longer one by one, which is how a check would compute them


def one_jacobian(f: UserFunction, args: Args, argnums: Argnums, options: Options) -> Any:
    """What ``JacobianPlan(f, args, argnums, options)(*args)`` returns, without a pattern where it is not needed."""
    if not options.may_be_dense or options.memory is not None:  # a run that is kept is not counted
        return JacobianPlan(f, args, argnums, options, once=True)(*args)
    function = FlatFunction(f, args, argnums, options.has_aux)
    with ordinary(args) as own:
        run = Run.first(function, own)
        if run is not None:
            refuse_complex(function)
            pattern = SparsityPattern.full((function.m, function.n))
            values = _small(run, pattern, options)
            if values is not None:
                return Assembly(function, pattern, options).result(values)
            run.before.replay()
        return JacobianPlan(f, own, argnums, options, once=True, run=run)(*own)


def _small(run: Run, pattern: SparsityPattern, options: Options) -> torch.Tensor | None:
    """All m x n values, where their sum with random weights is one product of plain autograd; else it takes a plan."""
    function, (m, n) = run.function, pattern.shape
    simple = options.entries is None and not (options.has_aux or options.compile or options.progress)
    small = 0 < m <= chunk_size(m, m + n, function.dtype.itemsize) and is_cheap(m, n)
    if not (simple and small) or run.reverse.differentiable:
        return None

    reverse, units = run.reverse, torch.eye(m, dtype=function.dtype, device=function.device)
    try:
        if m <= _ALONE:
            return torch.stack([reverse.one(unit) for unit in units]).reshape(-1)
        rows = reverse.batch(units)
        if options.check:
            u = random_numbers(m, rows)
            expected = reverse.one(u)
            if not near(u @ rows, expected, expected.abs()).all():
                return None
    except RuntimeError:  # what PyTorch refuses here a plan may do in another way
        return None
    return rows.reshape(-1)
