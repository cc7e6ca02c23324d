"""The Jacobian of a function that is not differentiated again: f runs once where its Jacobian is small and dense.

A plan is for many calls, and takes longer to make than a small dense Jacobian to compute. Here the first run of f,
which tells the number of rows, also serves to compute and check them. In all other cases a plan takes over the run.
"""

from __future__ import annotations

import torch
from torch.utils._pytree import PyTree

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

_ONE_BY_ONE = 4  # up to so many rows are as fast one by one; a check would compute the same, and is left out


def one_jacobian(f: UserFunction, args: Args, argnums: Argnums, options: Options) -> PyTree:
    """Return the same as ``JacobianPlan(f, args, argnums, options)(*args)``, without a pattern where none is needed."""
    if not options.may_be_dense or options.memory is not None:  # the memory of a run that is kept is not counted
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
    """Return all m x n values of a small dense Jacobian, checked by one product; None where it takes a plan."""
    function, (m, n) = run.function, pattern.shape
    simple = options.entries is None and not (options.has_aux or options.compile or options.progress)
    small = 0 < m <= chunk_size(m, m + n, function.dtype.itemsize) and is_cheap(m, n)
    if not (simple and small) or run.reverse.differentiable:
        return None

    reverse, units = run.reverse, torch.eye(m, dtype=function.dtype, device=function.device)
    try:
        if m <= _ONE_BY_ONE:
            return torch.stack([reverse.one(unit) for unit in units]).reshape(-1)
        rows = reverse.batch(units)
        if options.check:
            u = random_numbers(m, rows)
            expected = reverse.one(u)
            if not near(u @ rows, expected, expected.abs()).all():
                return None
    except RuntimeError:  # a plan may have another way where PyTorch refuses this one
        return None
    return rows.reshape(-1)
