"""What a coloring is: which columns or rows share one product."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any, ClassVar

import numpy as np

from .._base.errors import PatternError
from .._base.words import Colors, Partition, Recovery
from .._matrices import drawing
from .._matrices.pattern import SparsityPattern, as_pattern
from .citations import BIBTEX
from .equations import Equations, Places, bidirectional, direct_places, one_sided, substitution_levels, symmetric


@dataclass(frozen=True, eq=False, kw_only=True)
class Coloring:
    """Groups of columns or rows that share a product; see the subclasses for which.

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

    @property
    def by_substitution(self) -> bool:
        """Whether some entry is solved for, after those that share its products, instead of read off."""
        return False

    def equations(self, pattern: SparsityPattern) -> Equations:
        """Where in the compressed products each entry of ``pattern`` is summed."""
        raise NotImplementedError  # every partition has its own

    def verify(self, pattern: Any) -> bool:
        """True when every entry of ``pattern`` can be recovered; PatternError names the first that cannot."""
        pattern = _same_shape(as_pattern(pattern), self.shape)
        if self.by_substitution:
            what = "a product that reads it alone, or with entries known already"
            substitution_levels(self.equations(pattern), pattern, what)
        else:
            direct_places(self.equations(pattern), pattern, "a product that reads it alone")
        return True

    def of_entries(self, pattern: Any) -> Colors:
        """The color of the product that each entry of ``pattern`` is read from, or solved for with: (nnz,).

        With products of both directions, those of rows are numbered after those of columns.
        """
        raise NotImplementedError  # every partition has its own

    def plot(self, pattern: Any = None, ax: Any = None, **blocks: Any) -> Any:
        """Draw ``pattern`` with its entries in the colors of their products; without it, how many share a product.

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
        pattern, ax = _same_shape(as_pattern(pattern), self.shape), drawing.axes(ax)
        entries = pattern.rows, pattern.indices, self.of_entries(pattern)
        image = drawing.colored_image(self.shape, *entries, self.num_colors)
        return drawing.spy(ax, self.shape, image, str(self), **{"row_blocks": (), "column_blocks": (), **blocks})

    def sizes(self) -> list[int]:
        """How many columns or rows share each color."""
        members = [np.bincount(c[c >= 0]) for c in self._sides() if c.max(initial=-1) >= 0]
        return [int(size) for side in members for size in side]

    def _sides(self) -> tuple[Colors, ...]:
        raise NotImplementedError  # every partition has its own

    def _repr_html_(self) -> str:
        return f"<div><code>{escape(str(self))}</code>{drawing.swatches(self.sizes()[:200])}</div>"

    def citation(self) -> str:
        """BibTeX of the papers whose algorithms gave this coloring."""
        return "\n\n".join(BIBTEX[name] for name in self.sources)

    def __str__(self) -> str:
        gap = self.num_colors - self.lower_bound
        verdict = "which is optimal" if gap == 0 else f"at most {gap} from optimal"
        bound = f"lower bound {self.lower_bound}"
        return f"{self.num_colors} {self.partition} colors ({self.order} order), {verdict} ({bound})"


@dataclass(frozen=True, eq=False, kw_only=True)
class ColumnColors(Coloring):
    """No two columns of one color have an entry in the same row: a JVP with their sum reads every entry off."""

    colors: Colors
    """The color of each column, (n,), from 0; -1 for a column without entries."""
    partition: ClassVar[Partition] = "column"

    @property
    def column_colors(self) -> Colors:
        """The color of each column, (n,)."""
        return self.colors

    def equations(self, pattern: SparsityPattern) -> Equations:
        """One for each entry, in the forward products (num_colors, m)."""
        return one_sided(pattern, self.colors, "column")

    def of_entries(self, pattern: Any) -> Colors:
        """The color of each entry's column."""
        return self.colors[as_pattern(pattern).indices]

    def _sides(self) -> tuple[Colors, ...]:
        return (self.colors,)

    def verify(self, pattern: Any, entries: Any = None) -> bool:
        """True when no two columns of one color share a row of ``pattern``; PatternError names the first that do.

        With ``entries``: when each of these is alone in its product, whatever becomes of the others.
        """
        if entries is not None:
            return _verify_partial(self, as_pattern(pattern), as_pattern(entries))
        return _verify_distance2(as_pattern(pattern), self.colors, self.shape, "column")


@dataclass(frozen=True, eq=False, kw_only=True)
class RowColors(Coloring):
    """No two rows of one color have an entry in the same column: a VJP with their sum reads every entry off."""

    colors: Colors
    """The color of each row, (m,), from 0; -1 for a row without entries."""
    partition: ClassVar[Partition] = "row"

    @property
    def row_colors(self) -> Colors:
        """The color of each row, (m,)."""
        return self.colors

    def equations(self, pattern: SparsityPattern) -> Equations:
        """One for each entry, in the reverse products (num_colors, n)."""
        return one_sided(pattern, self.colors, "row")

    def of_entries(self, pattern: Any) -> Colors:
        """The color of each entry's row."""
        return self.colors[as_pattern(pattern).rows]

    def _sides(self) -> tuple[Colors, ...]:
        return (self.colors,)

    def verify(self, pattern: Any, entries: Any = None) -> bool:
        """True when no two rows of one color share a column of ``pattern``; PatternError names the first that do.

        With ``entries``: when each of these is alone in its product, whatever becomes of the others.
        """
        if entries is not None:
            return _verify_partial(self, as_pattern(pattern), as_pattern(entries))
        return _verify_distance2(as_pattern(pattern).T, self.colors, self.shape[::-1], "row")


@dataclass(frozen=True, eq=False, kw_only=True)
class SymmetricColors(Coloring):
    """Colors of a symmetric pattern: an entry and its mirror image are one unknown."""

    colors: Colors
    """The color of each column, (n,), from 0; -1 for a column that needs no product."""
    partition: ClassVar[Partition] = "symmetric"

    def equations(self, pattern: SparsityPattern) -> Equations:
        """One or two for each entry and its mirror image, in the products (num_colors, n)."""
        return symmetric(pattern, self.colors)

    def of_entries(self, pattern: Any) -> Colors:
        """The product that each entry is read from, or its mirror image; of a triangle too. O(nnz)."""
        pattern, n = as_pattern(pattern), self.shape[1]
        whole = pattern if pattern == pattern.T else pattern | pattern.T
        colors: Colors = (_read_from(self, whole) // n).astype(np.int32)
        if whole is pattern:
            return colors
        keys = [p.rows.astype(np.int64) * n + p.indices for p in (whole, pattern)]
        chosen: Colors = colors[np.searchsorted(*keys)]
        return chosen

    def _sides(self) -> tuple[Colors, ...]:
        return (self.colors,)


@dataclass(frozen=True, eq=False, kw_only=True)
class StarColors(SymmetricColors):
    """Colors of a symmetric pattern: an entry or its mirror image is alone in a product, so every entry is read off."""


@dataclass(frozen=True, eq=False, kw_only=True)
class AcyclicColors(SymmetricColors):
    """Colors of a symmetric pattern: entries are solved for one after another, each with those before it known."""

    @property
    def by_substitution(self) -> bool:
        """True: this is what an acyclic coloring is for."""
        return True


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
    def by_substitution(self) -> bool:
        """Whether the coloring was made for ``recovery="substitution"``."""
        return self.recovery == "substitution"

    @property
    def num_forward(self) -> int:
        """The number of column colors: JVPs."""
        return int(self.column_colors.max(initial=-1)) + 1

    @property
    def num_reverse(self) -> int:
        """The number of row colors: VJPs."""
        return int(self.row_colors.max(initial=-1)) + 1

    def equations(self, pattern: SparsityPattern) -> Equations:
        """One or two for each entry, in the forward products (num_forward, m) and then the reverse (num_reverse, n)."""
        return bidirectional(pattern, self.column_colors, self.row_colors)

    def of_entries(self, pattern: Any) -> Colors:
        """The product that each entry is read from: JVPs first, then VJPs. O(nnz)."""
        (m, n), forward = self.shape, self.num_forward
        place = _read_from(self, as_pattern(pattern))
        colors = np.where(place < forward * m, place // m, forward + (place - forward * m) // n)
        return colors.astype(np.int32)

    def _sides(self) -> tuple[Colors, ...]:
        return self.column_colors, self.row_colors

    def __str__(self) -> str:
        return f"{super().__str__()}: {self.num_forward} forward, {self.num_reverse} reverse"


def _same_shape(pattern: SparsityPattern, shape: tuple[int, int]) -> SparsityPattern:
    if pattern.shape != shape:
        raise PatternError(
            f"a coloring of shape {shape} for a pattern of shape {pattern.shape}", expected="the same shape"
        )
    return pattern


def _read_from(coloring: Coloring, pattern: SparsityPattern) -> Places:
    """The place in the products, laid end to end, that gives each entry: alone there, or once others are known."""
    equations = coloring.equations(_same_shape(pattern, coloring.shape))
    if equations.alone.any(axis=0).all():
        return direct_places(equations, pattern, "")[equations.unknown]
    place = np.empty(equations.entry.size, np.int64)
    for level in substitution_levels(equations, pattern, "a product that reads it alone, or with entries known"):
        place[level.unknowns] = level.place
    found: Places = place[equations.unknown]
    return found


def _verify_partial(coloring: Coloring, pattern: SparsityPattern, entries: SparsityPattern) -> bool:
    """Each wanted entry is alone in its equation, among all entries of ``pattern``."""
    _same_shape(pattern, coloring.shape)
    what = "a product that reads it alone"
    direct_places(coloring.equations(pattern), pattern, what, entries.has(pattern))
    return True


def _verify_distance2(pattern: SparsityPattern, colors: Colors, shape: tuple[int, int], side: str) -> bool:
    """Partial distance-2 coloring of the columns of ``pattern`` (Gebremedhin, Manne, Pothen 2005, definition 3.2)."""
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
