"""The Jacobian without a pattern: one product for every input (forward) or every output (reverse)."""

from __future__ import annotations

import numpy as np
import torch

from .._base.words import Args, Direction
from .._function.flat import FlatFunction
from .._products.seeded import Engines, Side
from .._products.ways import Products


class Dense:
    """Values of all m x n entries, row-major, by n JVPs (forward) or m VJPs (reverse)."""

    def __init__(self, function: FlatFunction, direction: Direction, made: Engines) -> None:
        self.mode: Direction = direction
        self.num_products = function.n if direction == "forward" else function.m
        colors = np.arange(self.num_products, dtype=np.int32)
        self.sides = [Side(made[direction], colors, self.num_products, across=direction == "forward")]
        self.joined = 0

    def kept(self, side: Side) -> int:
        """Nothing beside the result: chunks are written where that will be."""
        return 0

    @property
    def products(self) -> list[Products]:
        """The products of the one direction."""
        return [side.products for side in self.sides]

    def values(self, args: Args) -> torch.Tensor:
        """(m * n,)."""
        compressed = self.sides[0].run(args)
        return (compressed.T if self.mode == "forward" else compressed).reshape(-1)
