"""Gradients through J: verified once, and products changed to others where PyTorch's derivatives of them are wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .._base.errors import DerivativeMismatchError
from .._base.random_state import RandomState
from .._base.user_frame import warn
from .._base.words import Args, Mode
from .._function.flat import FlatFunction
from .adjoint_probe import Combination, Gradient, probe_gradient


@dataclass(frozen=True)
class Changeable:
    """How a plan computes its values, and what it can change about that.

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
    """Values whose gradient is right. Some formulas have wrong derivatives, or none: products change until it is."""
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


def _change(found: Gradient, products: Changeable, news: dict[str, None]) -> bool:
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
