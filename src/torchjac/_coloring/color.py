"""The function ``color``, which starts the algorithm that fits its options, and the choice of columns or rows."""

from __future__ import annotations

import time
from typing import Literal, TypedDict, Unpack, overload

import numpy as np

from .._base.errors import OptionError
from .._base.words import Order, Partition, Recovery, choose
from .._matrices.conversion import PatternLike, as_pattern
from .._matrices.pattern import SparsityPattern
from .algorithms.bidirectional import color_bidirectional
from .algorithms.graph import BipartiteGraph, column_graph, row_graph
from .algorithms.one_sided import search_distance2
from .algorithms.partial import search_partial
from .algorithms.search import Search
from .algorithms.symmetric import color_symmetric
from .colors import BidirectionalColors, Coloring, ColumnColors, RowColors, SymmetricColors

_CLASSES: dict[str, type[ColumnColors | RowColors]] = {"column": ColumnColors, "row": RowColors}


class _Options(TypedDict, total=False):
    """The options of ``color``, for its overloads."""

    order: Order
    recovery: Recovery
    seconds: float | None
    reverse_cost: float
    entries: PatternLike | None


@overload
def color(
    pattern: PatternLike, partition: Literal["column"] = "column", **options: Unpack[_Options]
) -> ColumnColors: ...
@overload
def color(pattern: PatternLike, partition: Literal["row"], **options: Unpack[_Options]) -> RowColors: ...
@overload
def color(pattern: PatternLike, partition: Literal["symmetric"], **options: Unpack[_Options]) -> SymmetricColors: ...
@overload
def color(
    pattern: PatternLike, partition: Literal["bidirectional"], **options: Unpack[_Options]
) -> BidirectionalColors: ...
@overload
def color(pattern: PatternLike, partition: Partition = "column", **options: Unpack[_Options]) -> Coloring: ...
def color(
    pattern: PatternLike,
    partition: Partition = "column",
    *,
    order: Order = "auto",
    recovery: Recovery = "direct",
    seconds: float | None = None,
    reverse_cost: float = 1.0,
    entries: PatternLike | None = None,
) -> Coloring:
    """Group the columns (or rows, or both) of ``pattern`` so that each group costs one product.

    >>> import torchjac as tj
    >>> tridiagonal = tj.SparsityPattern.from_coo([0, 0, 1, 1, 1, 2, 2], [0, 1, 0, 1, 2, 1, 2], (3, 3))
    >>> print(tj.color(tridiagonal, "column"))
    3 column colors (natural order), which is optimal (lower bound 3)

    Parameters
    ----------
    pattern: (m, n), a SparsityPattern, a SciPy or torch sparse matrix, or a dense matrix.
    partition: the lines that share a product: columns, rows, both, or both at once in a symmetric matrix.
    order: the order in which the greedy coloring visits; ``"auto"`` tries several and stops at the lower bound.
    recovery: ``"direct"`` reads every entry off a product, ``"substitution"`` solves for some: fewer products where
        the partition is symmetric or bidirectional, the same elsewhere.
    seconds: the time for ``order="auto"``; None for a few times the natural order, or about 60 ms if that is more
        (in counted steps, so that the same pattern always gets the same colors).
    reverse_cost: the cost of a row's product in a bidirectional coloring, where a column's costs 1.
    entries: the pattern of the entries that are wanted, if not all are: columns (or rows) share a color if each
        wanted entry can still be read off. Entries that ``pattern`` does not have are left out.
    """
    pattern = as_pattern(pattern)
    _check_options(partition, order, recovery, seconds, reverse_cost)
    if entries is not None:
        return _partial(pattern, as_pattern(entries), partition, order, seconds)
    if partition == "symmetric":
        return color_symmetric(pattern, order, recovery, seconds)
    if partition == "bidirectional":
        return color_bidirectional(pattern, order, recovery, reverse_cost, seconds)
    graph = column_graph(pattern) if partition == "column" else row_graph(pattern)
    return _one_sided(search_distance2(graph, order, np.inf, seconds), pattern, partition)


def _partial(
    pattern: SparsityPattern, entries: SparsityPattern, partition: str, order: str, seconds: float | None
) -> ColumnColors | RowColors:
    if partition not in _CLASSES:
        raise OptionError(
            f"partition={partition!r} for some of the entries",
            expected="'column' or 'row'",
            why="products of two kinds that leave entries out are not looked for",
        )
    sides = (pattern, entries) if partition == "column" else (pattern.T, entries.T)
    return _one_sided(search_partial(*sides, order, seconds), pattern, partition)


def color_best(
    pattern: PatternLike, *, order: Order = "auto", reverse_cost: float = 1.0, seconds: float | None = None
) -> ColumnColors | RowColors:
    """The cheaper of a column and a row coloring, a row's product costing ``reverse_cost`` of a column's.

    The side with the smaller lower bound goes first; the other is given up as soon as it cannot win.

    >>> import numpy as np
    >>> color_best(np.ones((2, 5))).partition
    'row'
    """
    pattern = as_pattern(pattern)
    _check_options("column", order, "direct", seconds, reverse_cost)
    started = time.perf_counter()
    sides: list[tuple[Partition, BipartiteGraph, float]] = [
        ("column", column_graph(pattern), 1.0),
        ("row", row_graph(pattern), reverse_cost),
    ]
    sides.sort(key=lambda side: side[1].largest_net * side[2])
    best, cost, kind = None, np.inf, "column"
    for partition, graph, unit in sides:
        left = None if seconds is None else max(seconds - (time.perf_counter() - started), 0.0)
        limit = np.ceil(cost / unit - 1e-9) if best is not None else np.inf
        found = search_distance2(graph, order, limit, left)
        if found.colors is not None:
            best, cost, kind = found, found.limit * unit, partition
    assert best is not None  # the first side has no limit
    return _one_sided(best, pattern, kind)


def _one_sided(search: Search, pattern: SparsityPattern, partition: str) -> ColumnColors | RowColors:
    assert search.colors is not None  # without a limit there is always a coloring
    return _CLASSES[partition](
        colors=search.colors,
        num_colors=int(search.limit),
        lower_bound=int(search.bound),
        order=search.name,
        shape=pattern.shape,
        sources=search.sources,
    )


def _check_options(partition: str, order: str, recovery: str, seconds: float | None, reverse_cost: float) -> None:
    choose("partition", partition, Partition)
    choose("order", order, Order)
    choose("recovery", recovery, Recovery)
    if seconds is not None and not seconds >= 0:
        raise OptionError(f"seconds={seconds!r}", expected="a time of 0 or more, or None", instead="seconds=1.0")
    if not 0 < reverse_cost < np.inf:
        raise OptionError(f"reverse_cost={reverse_cost!r}", expected="a positive number", instead="reverse_cost=1.0")
