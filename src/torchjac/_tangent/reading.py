"""What a reading of the tangent program must be able to do.

The trace finds out which ops touch v and asks the rules how; a reading carries its own notion of dependence through.
Every method takes and returns ids: int64 tensors on the CPU, of the shape of the tensor they describe, 0 for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from .relations import Along, Ids


class Reading(Protocol):
    def union(self, a: Ids, b: Ids) -> Ids:
        """Elementwise union of two id tensors that broadcast against each other."""

    def reduce(self, ids: Ids, dims: Sequence[int]) -> Ids:
        """Union over ``dims``, which become length 1."""

    def mix(self, ids: Ids, dim: int, along: Along) -> Ids:
        """Mix along one dimension; a Window changes its length."""

    def collect(self, ids: Ids, target: torch.Tensor, size: int) -> Ids:
        """(size,) ids: the union, for every place, of the ids sent there; ``target`` -1 is dropped."""
