"""Index maps: for every element of a tensor, the input that it depends on, known before any x."""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
import torch

from ..tensor_map import no_dispatch

Ints = npt.NDArray[np.int64]

_SAMPLES = 31


class IndexMap:
    """A map by ``ids``, int64 of the tensor's shape: an input plus one, 0 for none. Maps are never written to.

    Maps are compared by content, with NumPy: tensor ops would pass through the modes that read the program.

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
        with no_dispatch():
            return self.ids.numpy()

    @cached_property
    def flat(self) -> Ints:
        """The ids, (elements,)."""
        return self.array.reshape(-1)

    def at(self, places: Ints) -> Ints:
        """Return the ids at flat places."""
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
        """Whether no element depends on any input."""
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
            other.__dict__["array"] = self.array  # the next comparison is one of identities
        return True

    def disjoint(self, other: IndexMap) -> bool:
        """Whether no element depends on an input in both maps."""
        if self.full or other.full:
            return self.empty or other.empty
        return not ((self._small != 0) & (other._small != 0)).any()

    def joined(self, other: IndexMap) -> IndexMap:
        """Return the map with the inputs of two maps that are disjoint, or agree."""
        return IndexMap(torch.from_numpy(np.asarray(np.maximum(self.array, other.array))))

    def agrees(self, other: IndexMap) -> bool:
        """Whether some elements depend on an input in both maps, and each of them on the same one."""
        if self.full and other.full:
            return self == other
        few = sample(self.flat.size)
        return _agree(self.at(few), other.at(few)) and _agree(self.array, other.array) and not self.disjoint(other)

    def broadcast(self, shape: torch.Size) -> IndexMap:
        """Return the map expanded to ``shape``."""
        if self.ids.shape == shape:
            return self
        if shape not in self._wider:
            with no_dispatch():
                self._wider[shape] = self.viewed(self.ids.expand(shape))
        return self._wider[shape]

    @cached_property
    def _wider(self) -> dict[torch.Size, IndexMap]:
        return {}

    def viewed(self, ids: torch.Tensor) -> IndexMap:
        """Return the map with ``ids``, which are a selection of this map's, each any number of times."""
        view = IndexMap(ids)
        if self.full:
            view.__dict__["full"] = True
        return view


@cache
def sample(count: int) -> Ints:
    """Return a few places among ``count``, evenly spread."""
    few = min(_SAMPLES, count)
    return np.arange(few) * count // max(few, 1) + count // (2 * max(few, 1))


def _agree(a: Ints, b: Ints) -> bool:
    return not ((a != b) & (a != 0) & (b != 0)).any()
