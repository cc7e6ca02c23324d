"""Value numbering of what chooses: two masks are one where the same ops made them from the same memory.

In ``y[x > 0] = x[x > 0] ** 2`` the mask is computed twice. For every x both hold the same, because both are the op
``gt`` of the same numbers, which nothing wrote to in between: hash consing (Ershov, "On programming of arithmetic
operations", Comm. ACM 1 (1958)), for masks and indices alone.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

from .._base.words import Args
from .call import Call, base_name
from .shadow import has_memory, memory

Number = int


class Numbering:
    """Numbers of tensors: equal numbers, equal contents, for every x."""

    def __init__(self) -> None:
        self._interned: dict[Any, Number] = {}
        self._storages: WeakKeyDictionary[torch.UntypedStorage, Number] = WeakKeyDictionary()
        self._orders: set[Number] = set()  # permutations along a dimension, that a sort returned
        self._inverses: dict[Number, Number] = {}

    def number(self, t: torch.Tensor) -> Number:
        """The number of t's contents."""
        return self._intern(self._token(t))

    def inverse(self, number: Number) -> Number | None:
        """The permutation that this one undoes, if it is known to undo one."""
        return self._inverses.get(number)

    def wrote(self, t: torch.Tensor) -> None:
        """Something else is in t's storage from now on."""
        self._storages[memory(t).untyped_storage()] = self._fresh()

    def made(self, func: Any, args: Args, kwargs: dict[str, Any], outs: list[torch.Tensor]) -> None:
        """``func`` made the masks and indices among ``outs``, new memory."""
        if not any(map(is_choice, outs)) or torch.Tag.nondeterministic_seeded in func.tags:
            return
        key = self._intern((func, self._token(args), self._token(tuple(kwargs.items()))))
        for k, t in enumerate(outs):
            if is_choice(t) and t.untyped_storage() not in self._storages:
                self._storages[t.untyped_storage()] = self._intern((key, k))
        if base_name(func) == "sort":
            self._sorted(Call(func, args, kwargs), outs[1])

    def _sorted(self, call: Call, order: torch.Tensor) -> None:
        """An order; one that sorts an order, upward and along its only dimension, is its inverse."""
        number, of = self.number(order), call["self"]
        self._orders.add(number)
        if is_choice(of) and of.dim() == 1 and not call["descending"] and self.number(of) in self._orders:
            self._inverses[number] = self.number(of)

    def _token(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if not has_memory(value) or value.layout is not torch.strided:
                return self._fresh()
            storage = value.untyped_storage()
            if storage not in self._storages:
                self._storages[storage] = self._fresh()
            number = self._storages[storage]
            return number, value.dtype, tuple(value.shape), value.stride(), value.storage_offset()
        if isinstance(value, (list, tuple)):
            return tuple(map(self._token, value))
        return type(value), repr(value)

    def _fresh(self) -> Number:
        return self._intern(("fresh", len(self._interned)))

    def _intern(self, key: Any) -> Number:
        return self._interned.setdefault(key, len(self._interned))


def is_choice(t: torch.Tensor) -> bool:
    """Whether t can be a mask or an index."""
    return has_memory(t) and t.layout is torch.strided and not (t.is_floating_point() or t.is_complex())
