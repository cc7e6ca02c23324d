"""The interface of all strategies: ways to the values of a pattern."""

from __future__ import annotations

from typing import Protocol

import torch

from .._base.words import Args, Mode
from .._products.seeded import Side


class Strategy(Protocol):
    """A way to the values of a pattern, which a plan runs. ``sides``: its products by direction, if any."""

    num_products: int
    sides: list[Side]

    @property
    def mode(self) -> Mode:
        """The mode that the values are built by."""

    @property
    def joined(self) -> int:
        """The bytes that joining the products of both directions takes."""

    def kept(self, side: Side) -> int:
        """The bytes that the products of one side are kept in while they run in chunks."""

    def values(self, args: Args) -> torch.Tensor:
        """The values of the pattern's entries at ``args``, (nnz,), row by row."""
