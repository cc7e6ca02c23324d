"""The adjoint probe: a computed Jacobian is compared with plain, unbatched automatic differentiation.

For a random u the vector J^T u, summed from the values, is compared with one VJP of ``torch.autograd.grad``. Batched
products, forward formulas, colorings, patterns and gathers share nothing with that one product, so that an error in
any of them shows. When they differ, wrong rows are computed alone to tell a stale pattern from a wrong formula.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from .._base.errors import DerivativeMismatchError, not_differentiable
from .._base.memory import peak_bytes
from .._base.random_state import RandomState, random_numbers
from .._base.words import Args
from .._function.flat import FlatFunction, on_tensors
from .._function.leaves import place
from .._matrices.pattern import SparsityPattern
from .._products.reverse import Reverse
from .._products.rounding import largest, near
from .entry_sums import EntrySums
from .error_bounds import agree, linearity_errors, rounding_errors, shifted, shifted_args
from .wrong_rows import raise_for_wrong_rows

_OWN_NOISE = 1.0  # times the fourth root of the precision: more noise than plain autograd has is no rounding


class Sums(Protocol):
    """Sums over the entries of a Jacobian."""

    def by_column(self, values: torch.Tensor, u: torch.Tensor, absolute: bool = False) -> torch.Tensor:
        """Return J^T u: (m,) -> (n,); ``absolute``: what the absolute values of the terms add up to."""

    def columns_of(self, u: torch.Tensor) -> torch.Tensor:
        """Return for each column the sum of |u| over the rows that have an entry in it."""


def probe(
    function: FlatFunction,
    args: Args,
    pattern: SparsityPattern,
    values: torch.Tensor,
    draws: RandomState,
    evaluate: Callable[[Args], torch.Tensor],
    sums: Sums | None = None,
    reverse: Reverse | None = None,
) -> None:
    """Raise StalePatternError or DerivativeMismatchError unless ``values`` on ``pattern`` are f's Jacobian at ``args``.

    One VJP, and some more products when something is wrong. A wrong entry is missed with probability zero, unless it
    is as small as the rounding errors of f, or hides behind an infinity or NaN. ``evaluate(args)`` made the values,
    on the random numbers ``draws``; ``sums`` adds them up where that takes less memory than by the pattern. ``reverse``
    is plain autograd at ``args``, where f ran for that already.
    """
    values, args = values.detach(), on_tensors(torch.detach, args)
    u = random_numbers(function.m, values)
    with draws.again(), torch.no_grad():
        reverse = reverse or Reverse(function, args, plain=True)
        expected = reverse.one(u)
        added = sums or EntrySums(pattern, values.device)
        got, scale = added.by_column(values, u), expected.abs()
        if bool(near(got, expected, scale).all()):  # whatever cancels in the sums
            return
        scale = scale + added.by_column(values, u, absolute=True)
        if agree(got, expected, scale):
            return

        def both(args: Args, u: torch.Tensor) -> torch.Tensor:
            draws.replay()
            theirs = Reverse(function, args, plain=True).one(u)
            draws.replay()
            return torch.stack([added.by_column(evaluate(args), u), theirs])

        here, again = torch.stack([got, expected]), both(args, u)
        moved = torch.stack([both(shifted_args(function, args, seed), shifted(u, seed)) for seed in range(3)])
        floor = rounding_errors(expected, moved[:, 1], added.columns_of(u * reverse.value), function.leaves(args))
        floor += (100 * largest(got - moved[:, 0])).minimum(_OWN_NOISE * torch.finfo(got.dtype).eps ** 0.25 * scale)
        floor += linearity_errors(lambda w: [reverse.one(w)], u, [expected])[0]
        if agree(again, here, scale) and agree(got, expected, scale, floor):
            return
        raise_for_wrong_rows(function, args, pattern, values, draws)
    worst = _worst(got, expected, scale)
    raise DerivativeMismatchError(
        f"J^T u is {got[worst].item():.6g} at input {place(function.inputs, worst)}, from the values of the plan",
        expected=f"{expected[worst].item():.6g}, from one product of torch.autograd.grad",
        why="f is not the same from call to call (random numbers? state?), or a formula of PyTorch is wrong",
        instead="a seeded generator inside f, or mode='reverse', or check=False if you know better",
    )


def probe_bytes(function: FlatFunction, args: Args, pattern: SparsityPattern) -> int:
    """Return how many bytes a probe takes at its peak, beside the values, where they are right."""
    values = torch.zeros(pattern.nnz, dtype=function.dtype, device=function.device)

    def compare() -> bool:
        u, reverse = random_numbers(function.m, values), Reverse(function, args, plain=True)
        expected = reverse.one(u)
        got, scale = (EntrySums(pattern, values.device).by_column(values, u, absolute) for absolute in (False, True))
        return agree(got, expected, scale)

    with torch.no_grad():
        try:
            return peak_bytes(compare)
        except RuntimeError as error:
            raise not_differentiable(error) from error


def _worst(got: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor) -> int:
    error = (got - expected).abs() / scale.clamp_min(torch.finfo(scale.dtype).tiny)
    error = torch.where(error.isfinite(), error, 0)
    return int(error.masked_fill(expected.isfinite() & ~got.isfinite(), torch.inf).argmax())
