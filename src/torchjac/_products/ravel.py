"""Between ravelled vectors and leaves."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .._function.leaves import Leaf


def to_leaves(flat: torch.Tensor, leaves: Sequence[Leaf]) -> tuple[torch.Tensor, ...]:
    """(..., n) -> one tensor (..., *leaf.shape) a leaf, in the leaf's dtype and on its device.

    Each in memory of its own: view_as_complex, as a derivative, wants even strides and offsets.
    """
    if len(leaves) == 1 and flat.dtype == leaves[0].dtype:
        return (flat if len(leaves[0].shape) == 1 else flat.reshape(flat.shape[:-1] + leaves[0].shape),)
    parts = (flat[..., leaf.start : leaf.stop].reshape(flat.shape[:-1] + leaf.shape) for leaf in leaves)
    return tuple(
        part.to(leaf.device, leaf.dtype, copy=True, memory_format=torch.contiguous_format)
        for part, leaf in zip(parts, leaves, strict=True)
    )


def to_flat(parts: Sequence[torch.Tensor], leaves: Sequence[Leaf], dtype: torch.dtype) -> torch.Tensor:
    """One tensor (..., *leaf.shape) a leaf -> (..., n)."""
    if len(leaves) == 1 and len(leaves[0].shape) == 1 and parts[0].dtype == dtype:
        return parts[0]
    batch = parts[0].dim() - len(leaves[0].shape)
    flat = [part.reshape(*part.shape[:batch], -1).to(dtype) for part in parts]
    return flat[0] if len(flat) == 1 else torch.cat(flat, -1)
