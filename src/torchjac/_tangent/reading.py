"""The protocol of a reading: how it carries dependence through a tangent program.

The trace finds out which ops touch v and asks the rules how; a reading carries its own kind of ids through them.
Every method takes and returns ids: int64 tensors on the CPU, of the shape of the tensor they describe, 0 for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from .relations import Along, Ids


class Reading(Protocol):
    """A kind of ids, and how each kind of relation carries them."""

    curious: bool
    """Whether the trace is to call ``arrive`` after each op."""

    def tidy(self, live: Callable[[], list[Ids]]) -> None:
        """Drop what no tensor of ``live()`` refers to, where that pays; these tensors may be renumbered in place."""

    def arrive(self, op: str, line: str, before: list[Ids], ids: Ids) -> Ids:
        """Return the ids to keep for ``ids``, which ``op`` at ``line`` made of operands with the ids ``before``."""

    def entries(self, ids: Ids) -> int:
        """Return how many dependences the ids stand for in all; 0 for a reading that does not count them."""

    def union(self, a: Ids, b: Ids) -> Ids:
        """Return the elementwise union of two id tensors that broadcast against each other."""

    def reduce(self, ids: Ids, dims: Sequence[int]) -> Ids:
        """Return the union over ``dims``, which become length 1."""

    def mix(self, ids: Ids, dim: int, along: Along) -> Ids:
        """Return the ids mixed along one dimension; a Window changes its length."""

    def collect(self, ids: Ids, target: torch.Tensor, size: int) -> Ids:
        """Return (size,) ids: for every place the union of the ids sent to it; those with ``target`` -1 are dropped."""
