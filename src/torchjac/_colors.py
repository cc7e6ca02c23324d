"""What a coloring is: which columns or rows share one product, and the seeds that follow from it.

A *seed* is a 0/1 vector that selects the members of one color. Seeds are made a chunk of colors at a time, so that no
object is ever wider than the products that run at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from ._errors import PatternError
from ._pattern import SparsityPattern, as_pattern
from ._types import Partition

Colors = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Coloring:
    """Groups of columns or rows that share a product; see the subclasses for which.

    Attributes
    ----------
    colors: the color of each vertex, from 0; -1 where no product is needed because nothing is stored there.
    num_colors: the number of products in all.
    lower_bound: no coloring of this kind can have fewer.
    order: the vertex order that gave it.
    shape: (m, n) of the pattern that was colored.
    """

    colors: Colors
    num_colors: int
    lower_bound: int
    order: str
    shape: tuple[int, int]
    partition: ClassVar[Partition]

    def verify(self, pattern: Any) -> bool:
        """True when every entry of ``pattern`` can be recovered; PatternError names the first that cannot."""
        raise NotImplementedError  # every partition has its own definition

    def __str__(self) -> str:
        gap = self.num_colors - self.lower_bound
        verdict = "which is optimal" if gap == 0 else f"at most {gap} from optimal"
        bound = f"lower bound {self.lower_bound}"
        return f"{self.num_colors} {self.partition} colors ({self.order} order), {verdict} ({bound})"


@dataclass(frozen=True, eq=False)
class ColumnColors(Coloring):
    """No two columns of one color have an entry in the same row: a JVP with their sum reads every entry off."""

    partition: ClassVar[Partition] = "column"

    @property
    def column_colors(self) -> Colors:
        """The color of each column, (n,)."""
        return self.colors

    def verify(self, pattern: Any) -> bool:
        """True when no two columns of one color share a row of ``pattern``; PatternError names the first that do."""
        return _verify_distance2(as_pattern(pattern), self, "column")


@dataclass(frozen=True, eq=False)
class RowColors(Coloring):
    """No two rows of one color have an entry in the same column: a VJP with their sum reads every entry off."""

    partition: ClassVar[Partition] = "row"

    @property
    def row_colors(self) -> Colors:
        """The color of each row, (m,)."""
        return self.colors

    def verify(self, pattern: Any) -> bool:
        """True when no two rows of one color share a column of ``pattern``; PatternError names the first that do."""
        return _verify_distance2(as_pattern(pattern).T, self, "row")


class Seeds:
    """The seeds of one vector of colors, on a device, a chunk at a time.

    ``Seeds(colors, like=x).chunk(0, 4)`` is a (4, n) tensor of x's dtype and device.
    """

    def __init__(self, colors: Colors, dtype: torch.dtype, device: torch.device) -> None:
        self.colors, self.dtype, self.device = colors, dtype, device

    @cached_property
    def _on_device(self) -> torch.Tensor:
        return torch.from_numpy(self.colors).to(self.device)

    def chunk(self, start: int, stop: int) -> torch.Tensor:
        """Seeds of the colors from ``start`` up to ``stop``: (stop - start, n)."""
        wanted = torch.arange(start, stop, dtype=torch.int32, device=self.device)
        return (self._on_device == wanted[:, None]).to(self.dtype)


def _verify_distance2(pattern: SparsityPattern, coloring: Coloring, side: str) -> bool:
    """Partial distance-2 coloring of the columns of ``pattern`` (Gebremedhin, Manne, Pothen 2005, definition 3.2)."""
    shape = coloring.shape if side == "column" else coloring.shape[::-1]
    if pattern.shape != shape:
        raise PatternError(
            f"a coloring of shape {shape} for a pattern of shape {pattern.shape}", expected="the same shape"
        )
    color = coloring.colors[pattern.indices]
    if (color < 0).any():
        missing = int(pattern.indices[color < 0][0])
        raise PatternError(
            f"{side} {missing} has entries but no color", expected=f"a color for every {side} with entries"
        )
    keys = pattern.rows.astype(np.int64) * max(coloring.num_colors, 1) + color
    order = np.argsort(keys, kind="stable")
    clash = np.flatnonzero(np.diff(keys[order]) == 0)
    if clash.size:
        a, b = order[clash[0]], order[clash[0] + 1]
        other = "row" if side == "column" else "column"
        raise PatternError(
            f"{side}s {int(pattern.indices[a])} and {int(pattern.indices[b])} share color {int(color[a])} "
            f"and both have an entry in {other} {int(pattern.rows[a])}",
            expected=f"{side}s of one color that never meet in a {other}",
        )
    return True
