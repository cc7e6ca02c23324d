"""Index maps: for every element of a tensor, which input it depends on, known before any x."""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any

import numpy as np
import torch

from ..tensor_map import unseen

Ints = np.ndarray[Any, np.dtype[np.int64]]

_SAMPLES = 31


class IndexMap:
    """``ids``, int64 of the tensor's shape: an input plus one, 0 for none. Compared by content; never written to.

    What is asked of maps is computed by NumPy: as tensor ops, each would pass the modes that read the program.

    >>> import torch
    >>> IndexMap(torch.tensor([1, 2, 3])).broadcast(torch.Size((2, 3))).ids
    tensor([[1, 2, 3],
            [1, 2, 3]])
    """

    def __init__(self, ids: torch.Tensor) -> None:
        self.ids = ids

    @cached_property
    def array(self) -> Ints:
        """The ids, as an array that shares their memory."""
        with unseen():
            return self.ids.numpy()

    @cached_property
    def flat(self) -> Ints:
        """The ids, (elements,)."""
        return self.array.reshape(-1)

    def at(self, places: Ints) -> Ints:
        """The ids at flat places."""
        if self.array.flags.c_contiguous or not self.array.ndim:
            return self.flat[places]
        return self.array[np.unravel_index(places, self.array.shape)]

    @cached_property
    def _small(self) -> Ints:
        """The ids, each dimension that repeats one number cut to length 1."""
        return self.array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in self.array.strides)]

    @cached_property
    def full(self) -> bool:
        """Whether every element depends on some input."""
        return bool(self._small.all())

    @cached_property
    def empty(self) -> bool:
        """Whether no element depends on any."""
        return self.array.size == 0 or not (self.array.item(0) or self.full or self._small.any())

    @cached_property
    def _hash(self) -> int:
        return hash((self.array.shape, self.at(sample(self.array.size)).tobytes()))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, IndexMap) or self._hash != other._hash:
            return False
        if self.array is not other.array:
            if not np.array_equal(self.array, other.array):
                return False
            other.__dict__["array"] = self.array  # so that the next look is short
        return True

    def disjoint(self, other: IndexMap) -> bool:
        """Whether no element depends on an input in both."""
        if self.full or other.full:
            return self.empty or other.empty
        return not ((self._small != 0) & (other._small != 0)).any()

    def joined(self, other: IndexMap) -> IndexMap:
        """The inputs of two maps that are disjoint, or agree."""
        return IndexMap(torch.from_numpy(np.asarray(np.maximum(self.array, other.array))))

    def agrees(self, other: IndexMap) -> bool:
        """Whether some elements depend on an input in both, and all of these on the same one."""
        if self.full and other.full:
            return self == other
        few = sample(self.flat.size)
        return _agree(self.at(few), other.at(few)) and _agree(self.array, other.array) and not self.disjoint(other)

    def broadcast(self, shape: torch.Size) -> IndexMap:
        """The same, expanded to ``shape``."""
        if self.ids.shape == shape:
            return self
        if shape not in self._wider:
            with unseen():
                self._wider[shape] = self.viewed(self.ids.expand(shape))
        return self._wider[shape]

    @cached_property
    def _wider(self) -> dict[torch.Size, IndexMap]:
        return {}

    def viewed(self, ids: torch.Tensor) -> IndexMap:
        """The map with ``ids``, which are some of these, or all, any number of times."""
        view = IndexMap(ids)
        if self.full:
            view.__dict__["full"] = True
        return view


@cache
def sample(count: int) -> Ints:
    """A few places among ``count``, evenly spread."""
    few = min(_SAMPLES, count)
    return np.arange(few) * count // max(few, 1) + count // (2 * max(few, 1))


def _agree(a: Ints, b: Ints) -> bool:
    return not ((a != b) & (a != 0) & (b != 0)).any()
