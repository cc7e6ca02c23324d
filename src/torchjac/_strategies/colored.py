"""The Jacobian by colored products: one product a color, one gather (or a substitution) to the values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .._base.words import Args, Colors, Direction, Mode, Partition
from .._coloring.colors import BidirectionalColors, Coloring, ColumnColors, RowColors
from .._coloring.equations import Places
from .._coloring.recovery.direct import gather_index
from .._coloring.recovery.substitution import Substitution
from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._products.run import Run
from .._products.seeded import Side

_MODES: dict[Partition, Mode] = {"column": "forward", "row": "reverse", "bidirectional": "bidirectional"}

Recover = Callable[[torch.Tensor], torch.Tensor]
"""A function from all products, laid end to end, to the values (nnz,)."""


class Colored:
    """The values of the entries of ``pattern``, row-major, by ``coloring.num_colors`` products."""

    def __init__(
        self, function: FlatFunction, pattern: SparsityPattern, coloring: Coloring, ran: Run | None = None
    ) -> None:
        self.mode: Mode = _MODES[coloring.partition]
        self.num_products = coloring.num_colors
        self._dtype, self._device = function.dtype, function.device
        self.sides = [
            Side(function, way, colors, count, ran=ran if way == "reverse" else None)
            for way, colors, count in sides_of(coloring)
            if count > 0
        ]
        self.joined = joined_bytes(self.sides)
        self.recover: Recover
        if coloring.by_substitution:
            self.recover = Substitution(pattern, coloring, function.device)
        else:
            self.recover = reading_off(gather_index(pattern, coloring), function.device)

    def kept(self, side: Side) -> int:
        """The bytes of all products of a side, which chunks are written to."""
        return side.nbytes

    def values(self, args: Args) -> torch.Tensor:
        """The values, (nnz,)."""
        if self.num_products == 0:
            return torch.zeros(0, dtype=self._dtype, device=self._device)
        compressed = [side.run(args).reshape(-1) for side in self.sides]
        return self.recover(compressed[0] if len(compressed) == 1 else torch.cat(compressed))


def reading_off(places: Places, device: torch.device) -> Recover:
    """The recovery of values that stand at ``places`` of the products."""
    index = torch.from_numpy(places).to(device)
    return lambda compressed: compressed.index_select(0, index)


def joined_bytes(sides: Sequence[Side]) -> int:
    """The bytes of the products of two directions and of their copy, laid end to end; one direction needs no copy."""
    return 2 * sum(side.nbytes for side in sides) if len(sides) > 1 else 0


def sides_of(coloring: Coloring) -> list[tuple[Direction, Colors, int]]:
    """The products of a coloring: direction, colors and their number."""
    match coloring:
        case ColumnColors():
            return [("forward", coloring.colors, coloring.num_colors)]
        case RowColors():
            return [("reverse", coloring.colors, coloring.num_colors)]
        case BidirectionalColors():
            forward: tuple[Direction, Colors, int] = ("forward", coloring.column_colors, coloring.num_forward)
            return [forward, ("reverse", coloring.row_colors, coloring.num_reverse)]
    raise AssertionError(f"a Jacobian is not compressed by {type(coloring).__name__}")
