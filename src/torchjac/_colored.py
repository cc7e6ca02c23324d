"""The Jacobian by colored products: one product a color, one gather to the values."""

from __future__ import annotations

from typing import Any

import torch

from ._colors import Coloring, Seeds
from ._decompression import gather_index
from ._function import FlatFunction
from ._pattern import SparsityPattern
from ._products import Direction, Products, chunk_size


class Colored:
    """Values of the entries of ``pattern``, row-major, in ``coloring.num_colors`` products."""

    def __init__(self, function: FlatFunction, pattern: SparsityPattern, coloring: Coloring) -> None:
        self.direction: Direction = "forward" if coloring.partition == "column" else "reverse"
        self.num_products = coloring.num_colors
        chunk = chunk_size(self.num_products, sum(pattern.shape), function.dtype.itemsize)
        self.products = Products(function, self.direction, chunk)
        self._seeds = Seeds(coloring.colors, function.dtype, function.device)
        self._gather = torch.from_numpy(gather_index(pattern, coloring)).to(function.device)

    def values(self, args: tuple[Any, ...]) -> torch.Tensor:
        """(nnz,)."""
        if self.num_products == 0:
            return torch.zeros(0, dtype=self._seeds.dtype, device=self._seeds.device)
        compressed = self.products.compressed(args, self._seeds, self.num_products)
        return compressed.reshape(-1).index_select(0, self._gather)
