"""Rounding: when two results of floating point arithmetic are the same number."""

from __future__ import annotations

import torch


def close(
    got: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor, floor: torch.Tensor | float = 0.0
) -> torch.Tensor:
    """As ``near``, but with what is expected and not finite nothing is compared.

    Where a derivative is infinite, 0 * inf puts NaN at other entries in one mode than in another. What is finite by
    plain autograd has to be so everywhere.
    """
    return near(got, expected, scale, floor) | ~expected.isfinite()


def near(
    got: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor, floor: torch.Tensor | float = 0.0
) -> torch.Tensor:
    """Elementwise, to the square root of the precision; not where something is not finite."""
    tolerance = 10 * torch.finfo(got.dtype).eps ** 0.5
    found: torch.Tensor = (got - expected).abs() <= tolerance * scale + floor
    return found
