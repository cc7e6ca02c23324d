"""Gradients through J: verified once, and products changed to others where PyTorch's derivatives of them are wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .._base.errors import DerivativeMismatchError, first_line
from .._base.random_state import RandomState, random_numbers
from .._base.user_frame import warn
from .._base.words import Args, Mode
from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._products.reverse import Reverse, closed_over
from .._products.rounding import largest
from .entry_sums import EntrySums
from .error_bounds import agree, linearity_errors, rounding_errors, shifted_args


@dataclass(frozen=True)
class GradientFinding:
    """The result of a gradient probe: ``missing`` says why there is no gradient, not even by plain autograd twice."""

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
    """Return u.(J v) for a random v: one VJP. ``whole(values)`` are the values of all entries of ``pattern``."""
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
) -> GradientFinding:
    """Compare the gradient of ``values`` with that of reverse-over-reverse, for one random combination.

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
                return GradientFinding(right=True)  # nobody to differentiate by
        own, weights = combination.mine(values, u)
        mine = torch.dot(own, weights)
        other = reversed_twice(args)
        leaves = [leaf for leaf in function.leaves(args) if leaf.requires_grad]
        leaves += closed_over([other], [*leaves, *copies])
        try:
            expected = _gradient(other, leaves)
        except RuntimeError as error:  # an op without second derivative
            return GradientFinding(right=False, missing=first_line(error))
        try:
            got = _gradient(mine, leaves)
        except RuntimeError:  # a graph through forward mode that cannot be walked back, as of a checkpoint
            return GradientFinding(right=False)
        scales = [largest(e).expand_as(e) for e in expected]
        if all(map(agree, got, expected, scales)):
            return GradientFinding(right=True)
        moved = _gradient(reversed_twice(shifted_args(function, args, 0)), leaves)
        size = (own.detach() * weights).abs().sum()
        floors = [rounding_errors(e, m, size, [leaf]) for e, m, leaf in zip(expected, moved, leaves, strict=True)]
        uneven = linearity_errors(lambda w: _gradient(reversed_twice(args, w), leaves), u, expected)
        floors = [floor + more for floor, more in zip(floors, uneven, strict=True)]
    return GradientFinding(right=all(map(agree, got, expected, scales, floors)))


def _gradient(scalar: torch.Tensor, leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    if not scalar.requires_grad or not leaves:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(scalar, leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]


@dataclass(frozen=True)
class Changeable:
    """The ways of a plan to compute its values, and to change how it does that.

    function: f as it is computed now. reference: f by plain autograd alone, which is right. values: of all entries,
    anew. mode: the one in use now. reject: run what ran last never again, False where nothing else is left. to_reverse:
    use reverse mode from now on; None where another mode was asked for. to_reference_kernels: compute f on kernels that
    can be differentiated twice. back: compute it as at the beginning. combination: a number made of the values, whose
    gradient is compared.
    """

    function: Callable[[], FlatFunction]
    reference: Callable[[], FlatFunction]
    values: Callable[[], torch.Tensor]
    mode: Callable[[], Mode]
    reject: Callable[[], bool]
    to_reverse: Callable[[], None] | None
    to_reference_kernels: Callable[[], None]
    back: Callable[[], None]
    combination: Callable[[torch.Tensor], Combination]


def with_right_gradient(args: Args, values: torch.Tensor, draws: RandomState, products: Changeable) -> torch.Tensor:
    """Return values whose gradient is right: verify it once, and change products where it is wrong or missing."""
    first, fast, news = values, products.function(), dict[str, None]()
    while True:
        found = probe_gradient(products.reference(), args, products.combination(values), values, draws)
        if found.missing and products.function() is not fast:
            products.back()
            values = first
            news = {f"no gradient passes through this Jacobian, because PyTorch said: {found.missing}": None}
            break
        if found.right or not _change(found, products, news):
            break
        draws.replay()
        values = products.values()
    for text in news:
        warn(text)
    return values


def _change(found: GradientFinding, products: Changeable, news: dict[str, None]) -> bool:
    """Run products otherwise, and say so in ``news``; False where nothing is plainer than what ran."""
    mode = products.mode()
    if found.missing:
        products.to_reference_kernels()
        news[f"f runs on kernels that can be differentiated twice from now on, because {found.missing}"] = None
    elif mode == "reverse":
        if not products.reject():
            return False
        news["products run in another way from now on: gradients through batches of them are wrong here"] = None
    elif products.to_reverse is not None:
        products.to_reverse()
        news["reverse mode from now on: gradients through forward mode are wrong here"] = None
    else:
        raise DerivativeMismatchError(
            f"the gradient of this Jacobian in {mode} mode is not that of reverse-over-reverse",
            why="PyTorch's forward formula of an op in f is right, its derivative is not (pytorch#198017)",
            instead="mode='auto' or mode='reverse', or torch.no_grad() if no gradient is needed",
        )
    return True
