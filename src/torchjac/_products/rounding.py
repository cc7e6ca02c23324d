"""Rounding: when two results of floating point arithmetic are the same number."""

from __future__ import annotations

import math

import torch

_STRICT = 10.0  # times the square root of the precision: what a sum of many products may be off


def tolerance(eps: float, factor: float = _STRICT) -> float:
    """Return the relative difference up to which two results of precision ``eps`` count as the same number."""
    return factor * math.sqrt(eps)


def near(
    got: torch.Tensor,
    expected: torch.Tensor,
    scale: torch.Tensor,
    floor: torch.Tensor | float = 0.0,
    factor: float = _STRICT,
) -> torch.Tensor:
    """Tell elementwise whether two results are the same up to rounding; an infinity or NaN never is.

    scale: the size of what each number is a sum of. floor: an absolute difference that is allowed besides.
    """
    allowed = tolerance(torch.finfo(got.dtype).eps, factor)
    found: torch.Tensor = (got - expected).abs() <= allowed * scale + floor
    return found


def close(
    got: torch.Tensor,
    expected: torch.Tensor,
    scale: torch.Tensor,
    floor: torch.Tensor | float = 0.0,
    factor: float = _STRICT,
) -> torch.Tensor:
    """Tell the same as ``near``, but where what is expected is not finite, everything is right.

    Where a derivative is infinite, 0 * inf puts NaN at other entries in one mode than in another. What is finite by
    plain autograd has to be so everywhere.
    """
    return near(got, expected, scale, floor, factor) | ~expected.isfinite()


def largest(t: torch.Tensor) -> torch.Tensor:
    """Return the largest absolute value among the finite elements, 0 where there are none."""
    finite = torch.where(t.isfinite(), t, 0).abs()
    return finite.max() if t.numel() else finite.sum()
