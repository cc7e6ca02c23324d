"""Colorings: groups of columns or rows that share one product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .._base.errors import PatternError
from .._base.words import Colors, Partition, Recovery
from .._matrices import drawing
from .._matrices.conversion import PatternLike, as_pattern
from .._matrices.pattern import SparsityPattern
from .citations import BIBTEX
from .equations import Equations, Places, bidirectional, direct_places, one_sided, substitution_levels, symmetric

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, kw_only=True)
class Coloring:
    """Groups of columns or rows that share a product; each subclass is one partition.

    Attributes
    ----------
    num_colors: the number of products in all.
    lower_bound: no coloring of this kind can have fewer.
    order: the vertex order, or other way, that gave it.
    shape: (m, n) of the pattern that was colored.
    sources: the names of the papers whose algorithms gave it; ``citation()`` prints them.
    """

    num_colors: int
    lower_bound: int
    order: str
    shape: tuple[int, int]
    sources: tuple[str, ...] = ()
    partition: ClassVar[Partition]

    def equations(self, pattern: SparsityPattern) -> Equations:
        """The equations of ``pattern``: the place in the compressed products where each of its entries is summed."""
        raise NotImplementedError  # every partition has its own

    def verify(self, pattern: PatternLike) -> bool:
        """True when every entry of ``pattern`` can be recovered; PatternError names the first that cannot."""
        whole = _same_shape(as_pattern(pattern), self.shape)
        direct_places(self.equations(whole), whole, "a product that reads it alone")
        return True

    def of_entries(self, pattern: PatternLike) -> Colors:
        """The color of the product that each entry of ``pattern`` is read from, or solved for with: (nnz,).

        With products of both directions, those of rows are numbered after those of columns.
        """
        raise NotImplementedError  # every partition has its own

    def plot(self, pattern: PatternLike | None = None, ax: Axes | None = None, **blocks: Sequence[int]) -> Axes:
        """Draw ``pattern`` with each entry in the color of its product; without it, the size of each color.

        >>> import torch, torchjac as tj
        >>> pattern = tj.jacobian_sparsity(lambda x: x[1:] * x[:-1], torch.rand(50))
        >>> ax = tj.color(pattern).plot(pattern)
        >>> ax.get_title()
        '2 column colors (natural order), which is optimal (lower bound 2)'

        Parameters
        ----------
        ax: the axes to draw on; those of a new figure without it. They are returned.
        blocks: ``row_blocks`` and ``column_blocks``, as for ``SparsityPattern.plot``.

        Raises
        ------
        OptionError: matplotlib is not installed.
        PatternError: the pattern is of another shape.
        """
        if pattern is None:
            return drawing.bars(drawing.axes(ax, (5.5, 2.5)), self.sizes(), str(self))
        whole, ax = _same_shape(as_pattern(pattern), self.shape), drawing.axes(ax)
        image = drawing.colored_image(self.shape, whole.rows, whole.indices, self.of_entries(whole), self.num_colors)
        return drawing.spy(ax, self.shape, image, str(self), **{"row_blocks": (), "column_blocks": (), **blocks})

    def sizes(self) -> list[int]:
        """The number of columns or rows of each color."""
        members = [np.bincount(c[c >= 0]) for c in self._palettes() if c.max(initial=-1) >= 0]
        return [int(size) for palette in members for size in palette]

    def _palettes(self) -> tuple[Colors, ...]:
        raise NotImplementedError  # every partition has its own

    def _repr_html_(self) -> str:
        return f"<div><code>{escape(str(self))}</code>{drawing.swatches(self.sizes()[:200])}</div>"

    def citation(self) -> str:
        """The BibTeX entries of the papers whose algorithms gave this coloring."""
        return "\n\n".join(BIBTEX[name] for name in self.sources)

    def __str__(self) -> str:
        gap = self.num_colors - self.lower_bound
        verdict = "which is optimal" if gap == 0 else f"at most {gap} from optimal"
        bound = f"lower bound {self.lower_bound}"
        return f"{self.num_colors} {self.partition} colors ({self.order} order), {verdict} ({bound})"


@dataclass(frozen=True, eq=False, kw_only=True)
class OneSidedColors(Coloring):
    """Colors of all columns or of all rows, in which no two lines of one color meet."""

    colors: Colors

    def equations(self, pattern: SparsityPattern) -> Equations:
        """The equations of ``pattern``: one for each entry, in the products of one direction."""
        return one_sided(pattern, self.colors, self.partition)

    def _palettes(self) -> tuple[Colors, ...]:
        return (self.colors,)

    def verify(self, pattern: PatternLike, entries: PatternLike | None = None) -> bool:
        """True when no two lines of one color share an entry's place; PatternError names the first that do.

        With ``entries``: when each of these is alone in its product, whatever becomes of the others.
        """
        whole = as_pattern(pattern)
        if entries is not None:
            return _verify_partial(self, whole, as_pattern(entries))
        if self.partition == "column":
            return _verify_distance2(whole, self.colors, self.shape, "column")
        return _verify_distance2(whole.T, self.colors, self.shape[::-1], "row")


@dataclass(frozen=True, eq=False, kw_only=True)
class ColumnColors(OneSidedColors):
    """Colors of columns: no two of one color have an entry in the same row; a JVP with their sum reads all off."""

    colors: Colors
    """The color of each column, (n,), from 0; -1 for a column without entries."""
    partition: ClassVar[Partition] = "column"

    @property
    def column_colors(self) -> Colors:
        """The color of each column, (n,)."""
        return self.colors

    def of_entries(self, pattern: PatternLike) -> Colors:
        """The color of each entry's column, (nnz,)."""
        return self.colors[as_pattern(pattern).indices]


@dataclass(frozen=True, eq=False, kw_only=True)
class RowColors(OneSidedColors):
    """Colors of rows: no two of one color have an entry in the same column; a VJP with their sum reads all off."""

    colors: Colors
    """The color of each row, (m,), from 0; -1 for a row without entries."""
    partition: ClassVar[Partition] = "row"

    @property
    def row_colors(self) -> Colors:
        """The color of each row, (m,)."""
        return self.colors

    def of_entries(self, pattern: PatternLike) -> Colors:
        """The color of each entry's row, (nnz,)."""
        return self.colors[as_pattern(pattern).rows]


@dataclass(frozen=True, eq=False, kw_only=True)
class SymmetricColors(Coloring):
    """Colors of a symmetric pattern: an entry and its mirror image are one unknown."""

    colors: Colors
    """The color of each column, (n,), from 0; -1 for a column that needs no product."""
    partition: ClassVar[Partition] = "symmetric"

    def equations(self, pattern: SparsityPattern) -> Equations:
        """The equations of ``pattern``: one or two for an entry and its mirror image, in products (num_colors, n)."""
        return symmetric(pattern, self.colors)

    def of_entries(self, pattern: PatternLike) -> Colors:
        """The color of the product that gives each entry or its mirror image, (nnz,), also of a triangle. O(nnz)."""
        asked, n = as_pattern(pattern), self.shape[1]
        whole = asked if asked == asked.T else asked | asked.T
        colors: Colors = (_read_from(self, whole) // n).astype(np.int32)
        if whole is asked:
            return colors
        places, wanted = (p.rows.astype(np.int64) * n + p.indices for p in (whole, asked))
        chosen: Colors = colors[np.searchsorted(places, wanted)]
        return chosen

    def _palettes(self) -> tuple[Colors, ...]:
        return (self.colors,)


@dataclass(frozen=True, eq=False, kw_only=True)
class StarColors(SymmetricColors):
    """Star colors of a symmetric pattern: every entry or its mirror image is alone in a product, and is read off."""


@dataclass(frozen=True, eq=False, kw_only=True)
class AcyclicColors(SymmetricColors):
    """Acyclic colors of a symmetric pattern: entries are solved for one after another, by substitution."""

    def verify(self, pattern: PatternLike) -> bool:
        """True when substitution reaches every entry of ``pattern``; PatternError names one that it does not."""
        return _verify_substitution(self, as_pattern(pattern))


@dataclass(frozen=True, eq=False, kw_only=True)
class BidirectionalColors(Coloring):
    """Colors of some columns (a JVP each) and of some rows (a VJP each), which together recover every entry.

    With ``recovery="direct"`` each entry is alone in one of its products (star bicoloring), with ``"substitution"``
    it is once those before it are known (acyclic bicoloring).
    """

    column_colors: Colors
    """The color of each column, (n,), from 0; -1 for a column that no forward product needs."""
    row_colors: Colors
    """The color of each row, (m,), from 0; -1 for a row that no reverse product needs."""
    recovery: Recovery = "direct"
    partition: ClassVar[Partition] = "bidirectional"

    @property
    def num_forward(self) -> int:
        """The number of column colors: JVPs."""
        return int(self.column_colors.max(initial=-1)) + 1

    @property
    def num_reverse(self) -> int:
        """The number of row colors: VJPs."""
        return int(self.row_colors.max(initial=-1)) + 1

    def equations(self, pattern: SparsityPattern) -> Equations:
        """The equations of ``pattern``: one or two for each entry, in the forward and then the reverse products."""
        return bidirectional(pattern, self.column_colors, self.row_colors)

    def of_entries(self, pattern: PatternLike) -> Colors:
        """The number of the product that gives each entry, (nnz,): JVPs come first, then VJPs. O(nnz)."""
        (m, n), forward = self.shape, self.num_forward
        place = _read_from(self, as_pattern(pattern))
        colors = np.where(place < forward * m, place // m, forward + (place - forward * m) // n)
        return colors.astype(np.int32)

    def _palettes(self) -> tuple[Colors, ...]:
        return self.column_colors, self.row_colors

    def verify(self, pattern: PatternLike) -> bool:
        """True when every entry of ``pattern`` can be recovered; PatternError names one that cannot."""
        return super().verify(pattern) if self.recovery == "direct" else _verify_substitution(self, as_pattern(pattern))

    def __str__(self) -> str:
        return f"{super().__str__()}: {self.num_forward} forward, {self.num_reverse} reverse"


def _same_shape(pattern: SparsityPattern, shape: tuple[int, int]) -> SparsityPattern:
    if pattern.shape != shape:
        raise PatternError(
            f"a coloring of shape {shape} for a pattern of shape {pattern.shape}", expected="the same shape"
        )
    return pattern


def _read_from(coloring: Coloring, pattern: SparsityPattern) -> Places:
    """The place in the products, laid end to end, that gives each entry, directly or by substitution: (nnz,)."""
    equations = coloring.equations(_same_shape(pattern, coloring.shape))
    if equations.alone.any(axis=0).all():
        return direct_places(equations, pattern, "")[equations.unknown]
    place = np.empty(equations.entry.size, np.int64)
    for level in substitution_levels(equations, pattern, "a product that reads it alone, or with entries known"):
        place[level.unknowns] = level.place
    found: Places = place[equations.unknown]
    return found


def _verify_substitution(coloring: Coloring, pattern: SparsityPattern) -> bool:
    _same_shape(pattern, coloring.shape)
    what = "a product that reads it alone, or with entries known already"
    substitution_levels(coloring.equations(pattern), pattern, what)
    return True


def _verify_partial(coloring: Coloring, pattern: SparsityPattern, entries: SparsityPattern) -> bool:
    """True when each wanted entry is alone in its equation, among all entries of ``pattern``; else PatternError."""
    _same_shape(pattern, coloring.shape)
    what = "a product that reads it alone"
    direct_places(coloring.equations(pattern), pattern, what, entries.has(pattern))
    return True


def _verify_distance2(pattern: SparsityPattern, colors: Colors, shape: tuple[int, int], side: str) -> bool:
    """True for a partial distance-2 coloring of columns (Gebremedhin, Manne, Pothen 2005, definition 3.2)."""
    color = colors[_same_shape(pattern, shape).indices]
    if (color < 0).any():
        missing = int(pattern.indices[color < 0][0])
        raise PatternError(
            f"{side} {missing} has entries but no color", expected=f"a color for every {side} with entries"
        )
    keys = pattern.rows.astype(np.int64) * (int(colors.max(initial=-1)) + 1) + color
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
