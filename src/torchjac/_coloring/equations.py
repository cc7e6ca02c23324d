"""Equations between compressed products and entries: the definitions behind every recovery and every check.

A product with the seed of a color adds up, in each of its components, the entries of one row (or column) that have
this color: one *equation*. It stands at a *place* of the products laid end to end: forward products (num_colors, m)
first, then reverse products (num_colors, n). Every *unknown*, an entry or a symmetric pair of them, is in at most two:

    column partition         a[i, j] in color(j) m + i
    row partition            a[i, j] in color(i) n + j
    bidirectional            both, where column j and row i have a color
    symmetric (of order n)   color(j) n + i, and color(i) n + j for its mirror image

*Direct* recovery needs each unknown alone in one of its equations (Coleman, Moré, "Estimation of sparse Hessian
matrices and graph coloring problems", Math. Program. 28 (1984), section 2). *Substitution* needs an order in which
each is alone but for those before it (Coleman, Cai, "The cyclic coloring problem and estimation of sparse Hessian
matrices", SIAM J. Alg. Disc. Meth. 7 (1986), section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .._base.errors import PatternError
from .._base.words import Colors
from .._matrices.pattern import SparsityPattern

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Equations:
    """The unknown that each entry is, and the places of the two equations of each unknown.

    Attributes
    ----------
    entry: (unknowns,), the entry of the pattern, row-major, that the unknown is named after.
    unknown: (nnz,), the unknown that the entry is.
    places: (2, unknowns), the places of its equations; -1 for none.
    size: the number of places.
    """

    entry: Places
    unknown: Places
    places: Places
    size: int

    @cached_property
    def numbered(self) -> tuple[Places, Places]:
        """The equations numbered without gaps, (2, unknowns), -1 for none, and the number of unknowns in each."""
        flat = self.places.ravel()
        stored = flat >= 0
        number = np.full(flat.size, -1, np.int64)
        if self.size <= 16 * flat.size + 1000:  # else places are too many to count one by one
            number[stored] = flat[stored]
            return number.reshape(2, -1), np.bincount(flat[stored], minlength=self.size)
        _, number[stored], counts = np.unique(flat[stored], return_inverse=True, return_counts=True)
        return number.reshape(2, -1), counts

    @cached_property
    def alone(self) -> npt.NDArray[np.bool_]:
        """A mask, (2, unknowns): whether the unknown is the only one in that equation."""
        number, counts = self.numbered
        alone: npt.NDArray[np.bool_] = (number >= 0) & (np.append(counts, 0)[number] == 1)
        return alone


def one_sided(pattern: SparsityPattern, colors: Colors, side: str) -> Equations:
    """The equations of a column or a row coloring: one for each entry."""
    m, n = pattern.shape
    forward, reverse = _product_places(pattern, colors if side == "column" else None, colors if side == "row" else None)
    return _every_entry(pattern, forward, reverse, (int(colors.max(initial=-1)) + 1) * (m if side == "column" else n))


def bidirectional(pattern: SparsityPattern, column_colors: Colors, row_colors: Colors) -> Equations:
    """The equations of column colors (n,) and row colors (m,): up to two for each entry."""
    m, n = pattern.shape
    forward, reverse = _product_places(pattern, column_colors, row_colors)
    first = (int(column_colors.max(initial=-1)) + 1) * m
    reverse = np.where(reverse >= 0, reverse + first, -1)
    return _every_entry(pattern, forward, reverse, first + (int(row_colors.max(initial=-1)) + 1) * n)


def symmetric(pattern: SparsityPattern, colors: Colors) -> Equations:
    """The equations of a symmetric coloring, (n,): an entry and its mirror image are one unknown."""
    n = pattern.shape[0]
    rows, columns = pattern.rows.astype(np.int64), pattern.indices.astype(np.int64)
    upper = np.flatnonzero(rows <= columns)
    forward, reverse = _product_places(pattern, colors, colors)
    reverse[rows == columns] = -1  # the same equation once more
    unknown = np.empty(rows.size, np.int64)
    unknown[upper] = np.arange(upper.size)
    lower = np.flatnonzero(rows > columns)
    mirrored = upper[rows[upper] < columns[upper]]
    if lower.size != mirrored.size:
        raise PatternError("a pattern that is not symmetric", expected="with every entry its mirror image")
    unknown[lower[np.lexsort((rows[lower], columns[lower]))]] = unknown[mirrored]
    return Equations(upper, unknown, np.stack([forward[upper], reverse[upper]]), n * (int(colors.max(initial=-1)) + 1))


def direct_places(
    equations: Equations, pattern: SparsityPattern, what: str, wanted: npt.NDArray[np.bool_] | None = None
) -> Places:
    """The place where each unknown is alone, (unknowns,); PatternError names the first entry without one.

    With ``wanted``, (unknowns,), the others need no place: a partial recovery.
    """
    alone = equations.alone
    place: Places = np.where(alone[0], equations.places[0], equations.places[1])
    lost = np.flatnonzero(~alone.any(axis=0) & (True if wanted is None else wanted))
    if lost.size:
        raise _unrecoverable(equations, pattern, int(lost[0]), what)
    return place


@dataclass(frozen=True, eq=False)
class Level:
    """One step of a substitution: unknowns that are read at ``place``, then subtracted at ``other`` (-1 for none)."""

    unknowns: Places
    place: Places
    other: Places


def substitution_levels(equations: Equations, pattern: SparsityPattern, what: str) -> list[Level]:
    """The order of substitution; O(nnz) and one step a level. PatternError names an entry that has no place in it."""
    levels = list(each_level(equations))
    if sum(level.unknowns.size for level in levels) < equations.entry.size:
        solved = np.zeros(equations.entry.size, bool)
        for level in levels:
            solved[level.unknowns] = True
        raise _unrecoverable(equations, pattern, int(np.flatnonzero(~solved)[0]), what)
    return levels


def each_level(equations: Equations) -> Iterator[Level]:
    """The levels of a substitution one after another, for as far as it goes."""
    number, counts = equations.numbered
    counts, names = counts.copy(), np.zeros(counts.size, np.int64)  # the sum of the unsolved names in each equation
    for side in number:
        np.add.at(names, side[side >= 0], np.flatnonzero(side >= 0))
    ready = np.flatnonzero(counts == 1)
    while ready.size:
        unknowns, first = np.unique(names[ready], return_index=True)  # alone in both of its equations: solve it once
        from_first = number[0, unknowns] == ready[first]
        place = np.where(from_first, equations.places[0, unknowns], equations.places[1, unknowns])
        other = np.where(from_first, equations.places[1, unknowns], equations.places[0, unknowns])
        yield Level(unknowns, place, other)
        touched = number[:, unknowns]
        for side in touched:
            np.subtract.at(counts, side[side >= 0], 1)
            np.subtract.at(names, side[side >= 0], unknowns[side >= 0])
        touched = np.unique(touched[touched >= 0])
        ready = touched[counts[touched] == 1]


def _product_places(
    pattern: SparsityPattern, column_colors: Colors | None, row_colors: Colors | None
) -> tuple[Places, Places]:
    """The place of each entry in the forward and in the reverse products, -1 for none: two arrays (nnz,)."""
    rows, columns = pattern.rows.astype(np.int64), pattern.indices.astype(np.int64)
    m, n = pattern.shape
    nowhere = np.full(rows.size, -1, np.int64)
    forward, reverse = nowhere, nowhere.copy()
    if column_colors is not None:
        color = column_colors[columns].astype(np.int64)
        forward = np.where(color >= 0, color * m + rows, -1)
    if row_colors is not None:
        color = row_colors[rows].astype(np.int64)
        reverse = np.where(color >= 0, color * n + columns, -1)
    return forward, reverse


def _every_entry(pattern: SparsityPattern, forward: Places, reverse: Places, size: int) -> Equations:
    every = np.arange(pattern.nnz)
    return Equations(every, every, np.stack([forward, reverse]), size)


def _unrecoverable(equations: Equations, pattern: SparsityPattern, unknown: int, what: str) -> PatternError:
    entry = int(equations.entry[unknown])
    i, j = int(pattern.rows[entry]), int(pattern.indices[entry])
    why = "neither its row nor its column has a color"
    number, _ = equations.numbered
    shared = number[:, unknown][number[:, unknown] >= 0]
    if shared.size:
        beside = np.flatnonzero((number == shared[0]).any(axis=0))
        named = next(int(e) for e in equations.entry[beside] if e != entry)
        other = f"({int(pattern.rows[named])}, {int(pattern.indices[named])})"
        why = f"every product that reads it also reads another, such as {other}"
    return PatternError(f"the entry ({i}, {j}) cannot be recovered", expected=what, why=why)
