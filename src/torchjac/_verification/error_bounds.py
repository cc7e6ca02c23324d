"""Error bounds: how large rounding errors in a product can be, measured by computing it again a little differently."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.utils._pytree import tree_map

from .._base.random_state import random_numbers
from .._base.words import Args
from .._function.flat import FlatFunction
from .._products.rounding import close, largest

_OTHERS = 3  # so many vectors measure rounding: all of them cancel by accident once in a million times


def agree(got: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor, floor: torch.Tensor | float = 0.0) -> bool:
    """Tell whether all elements are the same up to rounding; see ``close``."""
    return bool(close(got, expected, scale, floor).all())


def shifted_args(function: FlatFunction, args: Args, seed: int) -> Args:
    """Return ``args`` with the differentiated ones off by a few rounding errors."""
    return tuple(tree_map(lambda t: shifted(t, seed), a) if p in function.positions else a for p, a in enumerate(args))


def shifted(t: torch.Tensor, seed: int) -> torch.Tensor:
    """Return ``t`` with each number off by a few rounding errors."""
    noise = random_numbers(t.numel(), t.detach(), seed=seed + 2).reshape(t.shape)
    return t * (1 + 4 * torch.finfo(t.dtype).eps * noise)


def rounding_errors(
    here: torch.Tensor, moved: torch.Tensor, y: torch.Tensor, x: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return how large rounding errors in the derivative of ``y`` by ``x`` can be.

    At least what two results differ by that differ by nothing else, and the precision of a difference quotient.
    """
    size = torch.stack([largest(t.detach()).to(y.device, y.dtype) for t in x]).max()
    floor = torch.where(size > 0, torch.finfo(y.dtype).eps * y / size, 0)
    return 100 * (largest(here - moved) + floor)


def linearity_errors(
    linear: Callable[[torch.Tensor], list[torch.Tensor]], u: torch.Tensor, images: list[torch.Tensor]
) -> list[torch.Tensor]:
    """Return how large rounding errors in ``images = linear(u)`` can be.

    The image of a sum is compared with the sum of the images. They differ by nothing in float64, and by more where
    f computes in another precision than that of its inputs and outputs.
    """
    others = [random_numbers(u.numel(), u, seed) for seed in range(5, 5 + _OTHERS)]
    pairs = [zip(images, linear(w), linear(u + w), strict=True) for w in others]
    off = [[(both - image - other).abs() for image, other, both in pair] for pair in pairs]
    return [100 * torch.stack(parts).amax(0) for parts in zip(*off, strict=True)]
