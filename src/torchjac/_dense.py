"""The Jacobian without a pattern: one product for every input (forward) or every output (reverse)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ._colors import Seeds
from ._function import FlatFunction
from ._products import Direction, Products, chunk_size


class Dense:
    """Values of all m x n entries, row-major, in min(m, n) products unless a direction is asked for."""

    def __init__(self, function: FlatFunction, direction: Direction | None) -> None:
        m, n = function.m, function.n
        self.mode: Direction = direction or ("forward" if n < m else "reverse")
        self.num_products = n if self.mode == "forward" else m
        chunk = chunk_size(self.num_products, m + n, function.dtype.itemsize)
        self.products = [Products(function, self.mode, chunk)]
        colors = np.arange(self.num_products, dtype=np.int32)
        self._seeds = Seeds(colors, function.dtype, function.device)

    def values(self, args: tuple[Any, ...]) -> torch.Tensor:
        """(m * n,)."""
        compressed = self.products[0].compressed(args, self._seeds, self.num_products)
        return (compressed.T if self.mode == "forward" else compressed).reshape(-1)
