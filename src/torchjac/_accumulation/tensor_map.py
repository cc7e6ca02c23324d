"""A dictionary of values for tensors, and a way to compute that the modes reading a program do not see."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from .._tangent.shadow import has_memory

T = TypeVar("T")

no_dispatch: Callable[[], AbstractContextManager[object]] = torch._C._DisableTorchDispatch
"""A context for ops on index maps: modes do not see them, which would make them take ten times as long."""


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def tensor_on(device: torch.device, array: npt.NDArray[np.int64 | np.bool_]) -> torch.Tensor:
    """Return an array of integers or booleans as a tensor on ``device``."""
    with no_dispatch():
        return torch.from_numpy(array).to(device)


def is_one_number(t: torch.Tensor) -> bool:
    """Whether t is one number repeated, where it has numbers: zeros without memory, meta and fake tensors have none."""
    if t.numel() == 0 or t.layout is not torch.strided or not has_memory(t) or type(t) not in _PLAIN:
        return False
    with no_dispatch():
        return bool((t == t.reshape(-1)[0]).all())


class TensorMap(Generic[T]):
    """A dictionary tensor -> value, which holds a value as long as its tensor lives. Tensors are compared by identity.

    Torch's own ``WeakTensorKeyDictionary`` makes and hashes a new reference at every lookup.
    """

    def __init__(self) -> None:
        self._found: dict[int, tuple[weakref.KeyedRef[int, torch.Tensor], T]] = {}
        mine = weakref.ref(self)

        def gone(reference: weakref.KeyedRef[int, torch.Tensor]) -> None:
            living = mine()
            if living is not None:
                living._found.pop(reference.key, None)

        self._gone = gone

    def get(self, t: torch.Tensor) -> T | None:
        """Return the value of t; None where there is none."""
        found = self._found.get(id(t))
        return found[1] if found is not None and found[0]() is t else None

    def __setitem__(self, t: torch.Tensor, value: T) -> None:
        key = id(t)
        self._found[key] = weakref.KeyedRef(t, self._gone, key), value
