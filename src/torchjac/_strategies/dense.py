"""The Jacobian without a pattern: one product for every input (forward) or every output (reverse)."""

from __future__ import annotations

import numpy as np
import torch

from .._base.words import Args, Direction
from .._function.flat import FlatFunction
from .._products.run import Run
from .._products.seeded import Side


class Dense:
    """The values of all m x n entries, row-major, by n JVPs (forward) or m VJPs (reverse)."""

    def __init__(self, function: FlatFunction, direction: Direction, ran: Run | None = None) -> None:
        self.mode: Direction = direction
        self.num_products = function.n if direction == "forward" else function.m
        colors = np.arange(self.num_products, dtype=np.int32)
        self.sides = [Side(function, direction, colors, self.num_products, across=direction == "forward", ran=ran)]
        self.joined = 0

    def kept(self, side: Side) -> int:
        """No bytes besides the result, which chunks are written to."""
        return 0

    def values(self, args: Args) -> torch.Tensor:
        """The values, (m * n,)."""
        compressed = self.sides[0].run(args)
        return (compressed.T if self.mode == "forward" else compressed).reshape(-1)
