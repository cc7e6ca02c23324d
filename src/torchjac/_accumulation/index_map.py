"""Index maps: for every element of a tensor, which input it depends on, known before any x."""

from __future__ import annotations

from functools import cached_property

import torch

_WEIGHTS = 97  # elements between two that share a weight of the hash


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

    def broadcast(self, shape: torch.Size) -> IndexMap:
        """The same, expanded to ``shape``."""
        return self if self.ids.shape == shape else IndexMap(self.ids.expand(shape))
