"""The Jacobian by colored products: one product a color, one gather (or a substitution) to the values."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .._base.words import Args, Colors, Direction, Mode, Partition
from .._coloring.colors import BidirectionalColors, Coloring, ColumnColors, RowColors
from .._coloring.recovery.direct import gather_index
from .._coloring.recovery.substitution import Substitution
from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._products.seeded import Engines, Side
from .._products.ways import Products

_MODES: dict[Partition, Mode] = {"column": "forward", "row": "reverse", "bidirectional": "bidirectional"}


class Colored:
    """Values of the entries of ``pattern``, row-major, in ``coloring.num_colors`` products."""

    def __init__(self, function: FlatFunction, pattern: SparsityPattern, coloring: Coloring, made: Engines) -> None:
        self.mode: Mode = _MODES[coloring.partition]
        self.num_products = coloring.num_colors
        self._dtype, self._device = function.dtype, function.device
        self.sides = [Side(made[way], colors, count) for way, colors, count in sides_of(coloring) if count > 0]
        both = len(self.sides) > 1
        self.joined = 2 * sum(side.nbytes for side in self.sides) if both else 0  # they are laid end to end
        self._recover = _recovery(pattern, coloring, function.device)

    def kept(self, side: Side) -> int:
        """Bytes of what chunks of a side are gathered in."""
        return side.nbytes

    @property
    def products(self) -> list[Products]:
        """The products of each direction that the coloring uses."""
        return [side.products for side in self.sides]

    def values(self, args: Args) -> torch.Tensor:
        """(nnz,)."""
        if self.num_products == 0:
            return torch.zeros(0, dtype=self._dtype, device=self._device)
        compressed = [side.run(args).reshape(-1) for side in self.sides]
        return self._recover(compressed[0] if len(compressed) == 1 else torch.cat(compressed))


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


def _recovery(
    pattern: SparsityPattern, coloring: Coloring, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    if coloring.by_substitution:
        return Substitution(pattern, coloring, device)
    index = torch.from_numpy(gather_index(pattern, coloring)).to(device)
    return lambda compressed: compressed.index_select(0, index)
