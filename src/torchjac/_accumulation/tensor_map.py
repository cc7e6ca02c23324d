"""What is kept beside tensors while a program is read, and how to compute without being read."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch

from .._tangent.shadow import has_memory

T = TypeVar("T")

unseen: Any = torch._C._DisableTorchDispatch
"""``with unseen():`` ops on index maps; for a mode they would be ops like others, and take ten times as long."""


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def on(device: torch.device, array: Any) -> torch.Tensor:
    """An array of integers or booleans as a tensor there."""
    with unseen():
        return torch.from_numpy(array).to(device)


def is_one_number(t: torch.Tensor) -> bool:
    """Whether t is one number repeated, where it has numbers: zeros without memory, meta and fake tensors have none."""
    if t.numel() == 0 or t.layout is not torch.strided or not has_memory(t) or type(t) not in _PLAIN:
        return False
    with unseen():
        return bool((t == t.reshape(-1)[0]).all())


class Beside(Generic[T]):
    """tensor -> value, for as long as the tensor lives. A tensor is found by being the same object.

    Torch's own ``WeakTensorKeyDictionary`` hashes a new reference at every look.
    """

    def __init__(self) -> None:
        self._found: dict[int, tuple[weakref.KeyedRef[int, torch.Tensor], T]] = {}
        mine = weakref.ref(self)

        def gone(reference: Any) -> None:
            beside = mine()
            if beside is not None:
                beside._found.pop(reference.key, None)

        self._gone: Callable[[Any], None] = gone

    def get(self, t: torch.Tensor) -> T | None:
        """The value beside t; None where there is none."""
        found = self._found.get(id(t))
        return found[1] if found is not None and found[0]() is t else None

    def __setitem__(self, t: torch.Tensor, value: T) -> None:
        key = id(t)
        self._found[key] = weakref.KeyedRef(t, self._gone, key), value
