"""The adjoint probe: does a computed Jacobian agree with plain, unbatched automatic differentiation.

For a random u the vector J^T u, summed from the values, is compared with one VJP of ``torch.autograd.grad``. Batched
products, forward formulas, colorings, patterns and gathers share nothing with that one product, so that an error in
any of them shows. When they differ, one wrong row is computed alone to tell a stale pattern from a wrong formula.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from ._errors import DerivativeMismatchError, StalePatternError
from ._function import FlatFunction, Leaf
from ._pattern import SparsityPattern
from ._products import Reverse


def probe(function: FlatFunction, args: tuple[Any, ...], pattern: SparsityPattern, values: torch.Tensor) -> None:
    """Raise StalePatternError or DerivativeMismatchError unless ``values`` on ``pattern`` are f's Jacobian at ``args``.

    One VJP, and two more products when something is wrong. A wrong entry is missed with probability zero.
    """
    values, args = values.detach(), tree_map(lambda t: t.detach() if isinstance(t, torch.Tensor) else t, args)
    with torch.enable_grad():
        reverse = Reverse(function, args, plain=True)
        u = _random(function.m, values)
        expected = reverse.one(u)
        rows = torch.from_numpy(pattern.rows.astype(np.int64)).to(values.device)
        columns = pattern.col_indices.to(values.device)
        terms = values * u[rows]
        got = torch.zeros_like(expected).index_add_(0, columns, terms)
        scale = torch.zeros_like(expected.abs()).index_add_(0, columns, terms.abs()) + expected.abs()
        if _agree(got, expected, scale):
            return
        _explain(function, args, pattern, values, reverse, rows, columns)
        worst = int(torch.nan_to_num((got - expected).abs() / scale.clamp_min(1e-300), nan=np.inf).argmax())
        raise DerivativeMismatchError(
            f"J^T u is {got[worst].item():.6g} at input {_name(function.inputs, worst)}, from the values of the plan",
            expected=f"{expected[worst].item():.6g}, from one product of torch.autograd.grad",
            why="f is not the same from call to call (random numbers? state?), or a formula of PyTorch is wrong",
            instead="a seeded generator inside f, or mode='reverse', or check=False if you know better",
        )


def probe_gradient(
    function: FlatFunction, args: tuple[Any, ...], pattern: SparsityPattern, values: torch.Tensor
) -> bool:
    """Whether differentiating ``values`` once more gives what reverse-over-reverse gives, for one random combination.

    Several forward formulas of PyTorch are right and have a wrong derivative (pytorch#198017).
    """
    leaves = [leaf for leaf in function.leaves(args) if leaf.requires_grad]
    if not leaves or not values.requires_grad:
        return True
    with torch.enable_grad():
        u, v = _random(function.m, values.detach()), _random(function.n, values.detach(), seed=1)
        rows = torch.from_numpy(pattern.rows.astype(np.int64)).to(values.device)
        weights = u[rows] * v[pattern.col_indices.to(values.device)]
        got = torch.autograd.grad((values * weights).sum(), leaves, retain_graph=True, allow_unused=True)
        scalar = (Reverse(function, args, plain=True).one(u) * v).sum()
        if not scalar.requires_grad:
            return all(g is None or bool((g == 0).all()) for g in got)
        expected = torch.autograd.grad(scalar, leaves, allow_unused=True)
    for leaf, g, e in zip(leaves, got, expected, strict=True):
        g, e = (torch.zeros_like(leaf) if t is None else t for t in (g, e))
        if not _agree(g, e, torch.full_like(e.abs(), float(e.abs().max()) if e.numel() else 0.0)):
            return False
    return True


def _explain(
    function: FlatFunction,
    args: tuple[Any, ...],
    pattern: SparsityPattern,
    values: torch.Tensor,
    reverse: Reverse,
    rows: torch.Tensor,
    columns: torch.Tensor,
) -> None:
    """Find a wrong row by J v, compute it alone, and raise the error that it calls for."""
    v = _random(function.n, values, seed=1)
    u = torch.zeros(function.m, dtype=values.dtype, device=values.device, requires_grad=True)
    try:  # J v by the double-backward identity: the derivative of u -> J^T u along v
        (expected,) = torch.autograd.grad(Reverse(function, args, plain=True, graph=True).one(u), u, v)
    except RuntimeError:
        return  # f has no second derivative: the caller names an input instead of an entry
    terms = values * v[columns]
    got = torch.zeros_like(expected).index_add_(0, rows, terms)
    scale = torch.zeros_like(expected.abs()).index_add_(0, rows, terms.abs()) + expected.abs()
    wrong = torch.nonzero(~_close(got, expected, scale))
    if wrong.numel() == 0:
        return
    i = int(wrong[0])
    unit = torch.zeros_like(v.new_zeros(function.m))
    unit[i] = 1
    row = reverse.one(unit)
    mine = torch.zeros_like(row)
    first, last = int(pattern.indptr[i]), int(pattern.indptr[i + 1])
    stored = columns[first:last]
    mine[stored] = values[first:last]
    outside = row.clone()
    outside[stored] = 0
    output = _name(function.outputs, i)
    if bool((outside != 0).any()):
        j = int(outside.abs().argmax())
        raise StalePatternError(
            f"output {output} depends on input {_name(function.inputs, j)} (derivative {row[j].item():.6g}), "
            f"which the pattern does not have; {wrong.numel()} of {function.m} rows are wrong",
            expected="a pattern with every entry that can be nonzero",
            why="the pattern was given by hand, or traced where f took another branch (scope 'local')",
            instead="plan_jacobian(f, *args) again at these inputs, or a larger pattern in sparsity=",
        )
    j = int((mine - row).abs().argmax())
    raise DerivativeMismatchError(
        f"d output {output} / d input {_name(function.inputs, j)} is {mine[j].item():.6g}",
        expected=f"{row[j].item():.6g}, from one product of torch.autograd.grad",
        why="PyTorch's formula for batched or forward-mode differentiation of an op in f is wrong",
        instead="mode='reverse' (or 'forward', whichever was not used)",
    )


def _random(size: int, like: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Normal numbers from a generator of our own, so that the caller's random state stays as it is."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64).to(like.device, like.dtype)


def _close(got: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Elementwise, to the square root of the precision; NaN agrees with NaN, an infinity with itself."""
    tolerance = 10 * torch.finfo(got.dtype).eps ** 0.5
    near = (got - expected).abs() <= tolerance * scale
    same: torch.Tensor = near | (got == expected) | (got.isnan() & expected.isnan())
    return same


def _agree(got: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor) -> bool:
    return bool(_close(got, expected, scale).all())


def _name(leaves: list[Leaf], position: int) -> str:
    """``args[0][1, 2]``: the leaf and the index in it of a position in the ravelled vector."""
    for leaf in leaves:
        if leaf.start <= position < leaf.stop:
            place = np.unravel_index(position - leaf.start, leaf.shape) if len(leaf.shape) else ()
            return f"{leaf.path}[{', '.join(str(int(p)) for p in place)}]"
    raise AssertionError(f"position {position} is in no leaf")
