"""The Jacobian by colored products: one product a color, one gather (or a substitution) to the values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ._colors import BidirectionalColors, Coloring, ColumnColors, RowColors, Seeds
from ._decompression import Substitution, gather_index
from ._equations import Colors
from ._function import FlatFunction
from ._pattern import SparsityPattern
from ._products import Direction, Products, chunk_size
from ._types import Mode, Partition

_MODES: dict[Partition, Mode] = {"column": "forward", "row": "reverse", "bidirectional": "bidirectional"}


class Colored:
    """Values of the entries of ``pattern``, row-major, in ``coloring.num_colors`` products."""

    def __init__(self, function: FlatFunction, pattern: SparsityPattern, coloring: Coloring) -> None:
        self.mode: Mode = _MODES[coloring.partition]
        self.num_products = coloring.num_colors
        self._dtype, self._device = function.dtype, function.device
        self._sides = [_Side(function, *side) for side in _sides(coloring) if side[2] > 0]
        self._recover = _recovery(pattern, coloring, function.device)

    @property
    def products(self) -> list[Products]:
        """The products of each direction that the coloring uses."""
        return [side.products for side in self._sides]

    @property
    def colors(self) -> list[torch.Tensor]:
        """The colors of each direction, on the device: what the seeds are made of."""
        return [side.colors for side in self._sides]

    def values(self, args: tuple[Any, ...]) -> torch.Tensor:
        """(nnz,)."""
        if self.num_products == 0:
            return torch.zeros(0, dtype=self._dtype, device=self._device)
        compressed = [side.run(args) for side in self._sides]
        return self._recover(compressed[0] if len(compressed) == 1 else torch.cat(compressed))


class _Side:
    """The products of one direction."""

    def __init__(self, function: FlatFunction, direction: Direction, colors: Colors, count: int) -> None:
        chunk = chunk_size(count, function.m + function.n, function.dtype.itemsize)
        self.products = Products(function, direction, chunk)
        self._seeds, self._count = Seeds(colors, function.dtype, function.device), count

    @property
    def colors(self) -> torch.Tensor:
        return self._seeds.on_device

    def run(self, args: tuple[Any, ...]) -> torch.Tensor:
        return self.products.compressed(args, self._seeds, self._count).reshape(-1)


def _sides(coloring: Coloring) -> list[tuple[Direction, Colors, int]]:
    match coloring:
        case ColumnColors():
            return [("forward", coloring.colors, coloring.num_colors)]
        case RowColors():
            return [("reverse", coloring.colors, coloring.num_colors)]
        case BidirectionalColors():
            forward: tuple[Direction, Colors, int] = ("forward", coloring.column_colors, coloring.num_forward)
            return [forward, ("reverse", coloring.row_colors, coloring.num_reverse)]
    raise AssertionError(f"a Jacobian is not compressed by {type(coloring).__name__}")


def _recovery(
    pattern: SparsityPattern, coloring: Coloring, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    if isinstance(coloring, BidirectionalColors) and coloring.recovery == "substitution":
        return Substitution(pattern, coloring, device)
    index = torch.from_numpy(gather_index(pattern, coloring)).to(device)
    return lambda compressed: compressed.index_select(0, index)
