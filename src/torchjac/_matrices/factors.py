"""Checks of the shape of a tensor that a matrix is multiplied with."""

from __future__ import annotations

import torch

from .._base.errors import InputError


def require_right_factor(shape: tuple[int, int], other: torch.Tensor) -> None:
    """Raise InputError unless an (m, n) matrix can be multiplied with ``other``: (n,) or (n, k)."""
    m, n = shape
    if other.dim() not in (1, 2) or other.shape[0] != n:
        raise InputError(
            f"a {m} x {n} matrix times a tensor of shape {tuple(other.shape)}", expected=f"shape ({n},) or ({n}, k)"
        )


def require_left_factor(shape: tuple[int, int], other: torch.Tensor) -> None:
    """Raise InputError unless ``other``, (m,) or (k, m), can be multiplied with an (m, n) matrix."""
    m, n = shape
    if other.dim() not in (1, 2) or other.shape[-1] != m:
        raise InputError(
            f"a tensor of shape {tuple(other.shape)} times a {m} x {n} matrix", expected=f"shape ({m},) or (k, {m})"
        )
