"""What a reading of the tangent program must be able to do.

The trace finds out which ops touch v and asks the rules how; a reading carries its own notion of dependence through.
Every method takes and returns ids: int64 tensors on the CPU, of the shape of the tensor they describe, 0 for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from .relations import Along, Ids


class Reading(Protocol):
    """Ids, and how each kind of relation carries them."""

    curious: bool
    """Whether ``arrive`` is to be called."""

    def tidy(self, live: Callable[[], list[Ids]]) -> None:
        """A good moment to drop what no tensor of ``live()`` refers to; those may be renumbered in place."""

    def arrive(self, op: str, line: str, before: list[Ids], ids: Ids) -> Ids:
        """``ids`` are what ``op`` at ``line`` made of operands with the ids ``before``; they may be replaced."""

    def entries(self, ids: Ids) -> int:
        """How much the ids stand for in all; 0 for a reading that does not count."""

    def union(self, a: Ids, b: Ids) -> Ids:
        """Elementwise union of two id tensors that broadcast against each other."""

    def reduce(self, ids: Ids, dims: Sequence[int]) -> Ids:
        """Union over ``dims``, which become length 1."""

    def mix(self, ids: Ids, dim: int, along: Along) -> Ids:
        """Mix along one dimension; a Window changes its length."""

    def collect(self, ids: Ids, target: torch.Tensor, size: int) -> Ids:
        """(size,) ids: the union, for every place, of the ids sent there; ``target`` -1 is dropped."""
