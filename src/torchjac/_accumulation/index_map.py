"""Index maps: for every element of a tensor, which input it depends on, known before any x."""

from __future__ import annotations

from functools import cached_property

import torch

_WEIGHTS = 97  # elements between two that share a weight of the hash
_SAMPLES = 31


class IndexMap:
    """``ids``, int64 of the tensor's shape: an input plus one, 0 for none. Compared by content; never written to.

    >>> import torch
    >>> IndexMap(torch.tensor([1, 2, 3])).broadcast(torch.Size((2, 3))).ids
    tensor([[1, 2, 3],
            [1, 2, 3]])
    """

    def __init__(self, ids: torch.Tensor) -> None:
        self.ids = ids

    @cached_property
    def _small(self) -> torch.Tensor:
        """The ids, each dimension that repeats one number cut to length 1."""
        cut = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in self.ids.stride())
        return self.ids[cut]

    @cached_property
    def full(self) -> bool:
        """Whether every element depends on some input."""
        return bool((self._small != 0).all())

    @cached_property
    def empty(self) -> bool:
        """Whether no element depends on any."""
        return not bool(self._small.any())

    @cached_property
    def _hash(self) -> int:
        flat = self.ids.reshape(-1)
        weights = torch.arange(1, flat.numel() + 1).remainder_(_WEIGHTS).add_(1)
        return hash((tuple(self.ids.shape), int((flat * weights).sum())))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, IndexMap) and self._hash == other._hash and torch.equal(self.ids, other.ids)

    def disjoint(self, other: IndexMap) -> bool:
        """Whether no element depends on an input in both."""
        if self.full or other.full:
            return self.empty or other.empty
        return not bool(((self._small != 0) & (other._small != 0)).any())

    def agrees(self, other: IndexMap) -> bool:
        """Whether some elements depend on an input in both, and all of these on the same one."""
        if self.full and other.full:
            return self == other
        few = sample(self.ids.numel())
        return _agree(self.ids.reshape(-1)[few], other.ids.reshape(-1)[few]) and (
            _agree(self.ids, other.ids) and not self.disjoint(other)
        )

    def broadcast(self, shape: torch.Size) -> IndexMap:
        """The same, expanded to ``shape``."""
        return self if self.ids.shape == shape else IndexMap(self.ids.expand(shape))


def sample(count: int) -> torch.Tensor:
    """A few places among ``count``, evenly spread."""
    few = min(_SAMPLES, count)
    return (torch.arange(few) * count).div_(max(few, 1), rounding_mode="floor") + count // (2 * max(few, 1))


def _agree(a: torch.Tensor, b: torch.Tensor) -> bool:
    return not bool(((a != b) & (a != 0) & (b != 0)).any())
