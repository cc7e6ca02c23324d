"""The adjoint probe: does a computed Jacobian agree with plain, unbatched automatic differentiation.

For a random u the vector J^T u, summed from the values, is compared with one VJP of ``torch.autograd.grad``. Batched
products, forward formulas, colorings, patterns and gathers share nothing with that one product, so that an error in
any of them shows. When they differ, wrong rows are computed alone to tell a stale pattern from a wrong formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.utils._pytree import tree_map

from .._base.errors import DerivativeMismatchError, StalePatternError, first_line, not_differentiable
from .._base.memory import peak_bytes
from .._base.random_state import RandomState, random_numbers
from .._base.words import Args
from .._function.flat import FlatFunction, on_tensors
from .._function.leaves import place
from .._matrices.pattern import SparsityPattern
from .._products.reverse import Reverse, closed_over
from .._products.rounding import close, near
from .entry_sums import EntrySums

_OTHERS = 3  # so many vectors measure rounding: all of them cancel by accident once in a million times
_OWN_NOISE = 1.0  # times the fourth root of the precision: more noise than plain autograd has is no rounding
_ROWS = 8  # so many wrong rows are computed alone: a missing entry spoils others of its color too


class Sums(Protocol):
    """Sums over the entries of a Jacobian."""

    def by_column(self, values: torch.Tensor, u: torch.Tensor, absolute: bool = False) -> torch.Tensor:
        """J^T u: (m,) -> (n,); ``absolute``: what the absolute values of the terms add up to."""

    def columns_of(self, u: torch.Tensor) -> torch.Tensor:
        """For each column, the sum of |u| over the rows that have an entry in it."""


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
        if _agree(got, expected, scale):
            return

        def both(args: Args, u: torch.Tensor) -> torch.Tensor:
            draws.replay()
            theirs = Reverse(function, args, plain=True).one(u)
            draws.replay()
            return torch.stack([added.by_column(evaluate(args), u), theirs])

        here, again = torch.stack([got, expected]), both(args, u)
        moved = torch.stack([both(_jiggled(function, args, seed), _jiggle(u, seed)) for seed in range(3)])
        floor = _rounding(expected, moved[:, 1], added.columns_of(u * reverse.value), function.leaves(args))
        floor += (100 * _largest(got - moved[:, 0])).minimum(_OWN_NOISE * torch.finfo(got.dtype).eps ** 0.25 * scale)
        floor += _uneven(lambda w: [reverse.one(w)], u, [expected])[0]
        if _agree(again, here, scale) and _agree(got, expected, scale, floor):
            return
        _explain(function, args, pattern, values, draws)
    worst = _worst(got, expected, scale)
    raise DerivativeMismatchError(
        f"J^T u is {got[worst].item():.6g} at input {place(function.inputs, worst)}, from the values of the plan",
        expected=f"{expected[worst].item():.6g}, from one product of torch.autograd.grad",
        why="f is not the same from call to call (random numbers? state?), or a formula of PyTorch is wrong",
        instead="a seeded generator inside f, or mode='reverse', or check=False if you know better",
    )


def probe_bytes(function: FlatFunction, args: Args, pattern: SparsityPattern) -> int:
    """How many bytes a probe takes at its peak, beside the values, where they are right."""
    values = torch.zeros(pattern.nnz, dtype=function.dtype, device=function.device)

    def compare() -> bool:
        u, reverse = random_numbers(function.m, values), Reverse(function, args, plain=True)
        expected = reverse.one(u)
        got, scale = (EntrySums(pattern, values.device).by_column(values, u, absolute) for absolute in (False, True))
        return _agree(got, expected, scale)

    with torch.no_grad():
        try:
            return peak_bytes(compare)
        except RuntimeError as error:
            raise not_differentiable(error) from error


@dataclass(frozen=True)
class Gradient:
    """What a probe of the gradient found: ``missing`` says why there is none, not even by plain autograd twice."""

    right: bool
    missing: str = ""


@dataclass(frozen=True)
class Combination:
    """A number made of J and of ``size`` weights, linear in both, in two ways.

    mine(values, weights): entries, from the values of a plan, and what each is multiplied by.
    theirs(product, weights): from VJPs of plain autograd.
    """

    size: int
    mine: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    theirs: Callable[[Reverse, torch.Tensor], torch.Tensor]


def all_entries(
    function: FlatFunction,
    pattern: SparsityPattern,
    values: torch.Tensor,
    whole: Callable[[torch.Tensor], torch.Tensor] = lambda values: values,
) -> Combination:
    """u.(J v) for a random v: one VJP. ``whole(values)`` are those of all entries of ``pattern``."""
    v, sums = random_numbers(function.n, values.detach(), seed=1), EntrySums(pattern, values.device)
    return Combination(
        function.m,
        lambda values, u: (whole(values), sums.outer(u, v)),
        lambda product, u: (product.one(u) * v).sum(),
    )


def probe_gradient(
    function: FlatFunction,
    args: Args,
    combination: Combination,
    values: torch.Tensor,
    draws: RandomState,
) -> Gradient:
    """Whether differentiating ``values`` once more gives what reverse-over-reverse gives, for one random combination.

    Several forward formulas of PyTorch are right and have a wrong derivative (pytorch#198017); some backward formulas
    have none. Neither may there be an infinity or NaN where reverse-over-reverse has none.
    """
    u = random_numbers(combination.size, values.detach())
    copies: list[torch.Tensor] = []  # of the inputs, that no other graph can reach

    def reversed_twice(args: Args, u: torch.Tensor = u) -> torch.Tensor:
        draws.replay()
        product = Reverse(function, args, plain=True)
        copies.extend(product.leaves)
        return combination.theirs(product, u)

    with draws.again(), torch.enable_grad():
        if not any(leaf.requires_grad for leaf in function.leaves(args)):
            reached = Reverse(function, args, plain=True)
            if not closed_over([reached.value], reached.leaves):
                return Gradient(right=True)  # nobody to differentiate by
        own, weights = combination.mine(values, u)
        mine = torch.dot(own, weights)
        other = reversed_twice(args)
        leaves = [leaf for leaf in function.leaves(args) if leaf.requires_grad]
        leaves += closed_over([other], [*leaves, *copies])
        try:
            expected = _gradient(other, leaves)
        except RuntimeError as error:  # an op without second derivative
            return Gradient(right=False, missing=first_line(error))
        try:
            got = _gradient(mine, leaves)
        except RuntimeError:  # a graph through forward mode that cannot be walked back, as of a checkpoint
            return Gradient(right=False)
        scales = [_largest(e).expand_as(e) for e in expected]
        if all(map(_agree, got, expected, scales)):
            return Gradient(right=True)
        moved = _gradient(reversed_twice(_jiggled(function, args, 0)), leaves)
        size = (own.detach() * weights).abs().sum()
        floors = [_rounding(e, m, size, [leaf]) for e, m, leaf in zip(expected, moved, leaves, strict=True)]
        uneven = _uneven(lambda w: _gradient(reversed_twice(args, w), leaves), u, expected)
        floors = [floor + more for floor, more in zip(floors, uneven, strict=True)]
    return Gradient(right=all(map(_agree, got, expected, scales, floors)))


def _explain(
    function: FlatFunction,
    args: Args,
    pattern: SparsityPattern,
    values: torch.Tensor,
    draws: RandomState,
) -> None:
    """Find the wrong rows by J v, compute the worst alone, and raise the error that they call for."""
    sums = EntrySums(pattern, values.device)
    v = random_numbers(function.n, values, seed=1)
    draws.replay()
    try:  # J v by the double-backward identity: the derivative of u -> J^T u along v
        with torch.enable_grad():
            u = torch.ones(function.m, dtype=values.dtype, device=values.device, requires_grad=True)  # 0 may be a kink
            (expected,) = torch.autograd.grad(Reverse(function, args, plain=True, graph=True).one(u), u, v)
    except RuntimeError:
        return  # f has no second derivative: the caller names an input instead of an entry
    got, scale = sums.by_row(values, v)
    wrong = ~close(got, expected, scale + expected.abs())
    worst = torch.where(wrong, (got - expected).abs(), -1).argsort(descending=True)[: min(_ROWS, int(wrong.sum()))]
    mismatches = []
    for i in worst.tolist():
        unit = v.new_zeros(function.m)
        unit[i] = 1
        draws.replay()
        row = Reverse(function, args, plain=True).one(unit)
        stored = sums.columns(i)
        mine = torch.zeros_like(row).index_copy_(0, stored, values[int(pattern.indptr[i]) : int(pattern.indptr[i + 1])])
        wrong_by = (mine - row).abs().nan_to_num(0, 0, 0)
        outside = wrong_by.index_fill(0, stored, 0)
        stale = bool(outside.max() > 1e-3 * wrong_by.max())  # what is missing was also added to entries of its color
        j = int((outside if stale else wrong_by).argmax())
        output, entry = place(function.outputs, i), place(function.inputs, j)
        if stale:
            error = StalePatternError(
                f"output {output} depends on input {entry} (derivative {row[j].item():.6g}), "
                f"which the pattern does not have; {int(wrong.sum())} of {function.m} rows are wrong",
                expected="a pattern with every entry that can be nonzero",
                why="the pattern was given by hand, or traced where f took another branch (scope 'local')",
                instead="plan_jacobian(f, *args) again at these inputs, or a larger pattern in sparsity=",
            )
            error.entry = i, j
            raise error
        mismatches.append((f"d output {output} / d input {entry} is {mine[j].item():.6g}", f"{row[j].item():.6g}"))
    if mismatches:
        raise DerivativeMismatchError(
            mismatches[0][0],
            expected=f"{mismatches[0][1]}, from one product of torch.autograd.grad",
            why="PyTorch's formula for batched or forward-mode differentiation of an op in f is wrong, or f uses "
            "torch.no_grad(), which forward mode ignores (x.detach() holds in both modes)",
            instead="mode='reverse' (or 'forward', whichever was not used)",
        )


def _gradient(scalar: torch.Tensor, leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    if not scalar.requires_grad or not leaves:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(scalar, leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]


def _jiggled(function: FlatFunction, args: Args, seed: int) -> Args:
    """``args`` with the differentiated ones off by a few rounding errors."""
    return tuple(tree_map(lambda t: _jiggle(t, seed), a) if p in function.positions else a for p, a in enumerate(args))


def _jiggle(t: torch.Tensor, seed: int) -> torch.Tensor:
    noise = random_numbers(t.numel(), t.detach(), seed=seed + 2).reshape(t.shape)
    return t * (1 + 4 * torch.finfo(t.dtype).eps * noise)


def _agree(got: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor, floor: torch.Tensor | float = 0.0) -> bool:
    return bool(close(got, expected, scale, floor).all())


def _rounding(here: torch.Tensor, moved: torch.Tensor, y: torch.Tensor, x: Sequence[torch.Tensor]) -> torch.Tensor:
    """How large rounding errors in the derivative of ``y`` by ``x`` can be.

    At least what two results differ by that differ by nothing else, and the precision of a difference quotient.
    """
    size = torch.stack([_largest(t.detach()).to(y.device, y.dtype) for t in x]).max()
    floor = torch.where(size > 0, torch.finfo(y.dtype).eps * y / size, 0)
    return 100 * (_largest(here - moved) + floor)


def _uneven(
    linear: Callable[[torch.Tensor], list[torch.Tensor]], u: torch.Tensor, images: list[torch.Tensor]
) -> list[torch.Tensor]:
    """How large rounding errors in ``images = linear(u)`` can be: what a sum of two is off the image of their sum.

    Nothing in float64. More where f computes in another precision than that of its inputs and outputs.
    """
    others = [random_numbers(u.numel(), u, seed) for seed in range(5, 5 + _OTHERS)]
    pairs = [zip(images, linear(w), linear(u + w), strict=True) for w in others]
    off = [[(both - image - other).abs() for image, other, both in pair] for pair in pairs]
    return [100 * torch.stack(parts).amax(0) for parts in zip(*off, strict=True)]


def _largest(t: torch.Tensor) -> torch.Tensor:
    finite = torch.where(t.isfinite(), t, 0).abs()
    return finite.max() if t.numel() else finite.sum()


def _worst(got: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor) -> int:
    error = (got - expected).abs() / scale.clamp_min(torch.finfo(scale.dtype).tiny)
    error = torch.where(error.isfinite(), error, 0)
    return int(error.masked_fill(expected.isfinite() & ~got.isfinite(), torch.inf).argmax())
