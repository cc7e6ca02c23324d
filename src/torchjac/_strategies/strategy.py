"""Strategies: the ways to the values of a pattern, behind one interface."""

from __future__ import annotations

from typing import Protocol

import torch

from .._base.words import Args, Mode
from .._products.seeded import Side


class Strategy(Protocol):
    """A way to the values of a pattern: what a plan runs. ``sides``: the products it is made of, if any."""

    num_products: int
    sides: list[Side]

    @property
    def mode(self) -> Mode:
        """What the values are built by."""

    @property
    def joined(self) -> int:
        """Bytes that joining the products of both directions takes."""

    def kept(self, side: Side) -> int:
        """Bytes that the products of one side are kept in while they run in chunks."""

    def values(self, args: Args) -> torch.Tensor:
        """The values of the pattern's entries at ``args``, (nnz,), row by row."""
