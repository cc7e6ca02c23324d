"""Tensor subclasses among the arguments: f sees them as they are, everything else sees plain tensors.

Transforms of ``torch.func`` and captured programs hand on plain tensors, without the methods that f may call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from .._base.words import Args

_ORDINARY = (torch.Tensor, torch.nn.Parameter)


def is_dressed(t: Any) -> bool:
    """Whether t is of a subclass that Python alone sees: no parameter, and no wrapper with a dispatch of its own."""
    kind = type(t)
    return (
        isinstance(t, torch.Tensor)
        and kind not in _ORDINARY
        and kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__
        and not isinstance(t, torch.nn.Parameter)
    )


def plain(t: torch.Tensor) -> torch.Tensor:
    """T as a ``torch.Tensor``, with its derivatives."""
    return t.as_subclass(torch.Tensor) if is_dressed(t) else t


def dressed(t: torch.Tensor, like: Any) -> torch.Tensor:
    """T with the class and attributes of ``like``, where that is of a subclass."""
    if not is_dressed(like) or type(t) is type(like):
        return t
    out: torch.Tensor = t.as_subclass(type(like))
    for name, value in vars(like).items():
        setattr(out, name, value)
    return out


def all_dressed(args: Args, like: Args) -> Args:
    """Dress the leaves of ``args`` like those of ``like``, a tree of the same structure."""
    if not any(map(is_dressed, pytree.tree_leaves(like))):
        return args
    out: Args = pytree.tree_map(dressed, args, like)
    return out
