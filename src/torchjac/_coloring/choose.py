"""Which coloring a request gets: the stages of ``color``, and the choice between columns and rows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .._colors import Coloring, ColumnColors, RowColors
from .._errors import OptionError
from .._pattern import SparsityPattern, as_pattern
from .._types import Order, Partition, Recovery, choose
from .distance2 import color_distance2
from .graph import BipartiteGraph, column_graph, row_graph
from .order import vertex_order

_KIND: dict[str, type[ColumnColors | RowColors]] = {"column": ColumnColors, "row": RowColors}


def color(
    pattern: Any,
    partition: Partition = "column",
    *,
    order: Order = "auto",
    recovery: Recovery = "direct",
    seconds: float | None = None,
) -> Coloring:
    """Group the columns (or rows) of ``pattern`` so that each group costs one product.

    >>> import torchjac as tj
    >>> tridiagonal = tj.SparsityPattern.from_coo([0, 0, 1, 1, 1, 2, 2], [0, 1, 0, 1, 2, 1, 2], (3, 3))
    >>> print(tj.color(tridiagonal, "column"))
    3 column colors (natural order), which is optimal (lower bound 3)

    Parameters
    ----------
    pattern: (m, n), a SparsityPattern, a SciPy or torch sparse matrix, or a dense matrix.
    partition: what shares a product.
    order: in which order the greedy coloring visits; ``"auto"`` tries several and stops at the lower bound.
    recovery: ``"direct"`` reads every entry off a product, ``"substitution"`` solves for some.
    seconds: how long ``order="auto"`` may go on; None for a few times the natural order.
    """
    pattern = as_pattern(pattern)
    choose("partition", partition, Partition)
    choose("order", order, Order)
    choose("recovery", recovery, Recovery)
    if partition not in _KIND:
        raise OptionError(f"partition={partition!r} is not there yet", expected="'column' or 'row'")
    deadline = None if seconds is None else time.perf_counter() + seconds
    graph = column_graph(pattern) if partition == "column" else row_graph(pattern)
    best = _distance2(graph, pattern, partition, order, None, deadline)
    assert best is not None  # without a limit there is always a coloring
    return best


def color_best(
    pattern: Any, *, order: Order = "auto", reverse_cost: float = 1.0, seconds: float | None = None
) -> ColumnColors | RowColors:
    """The cheaper of a column and a row coloring, a row's product costing ``reverse_cost`` of a column's.

    The side with the smaller lower bound goes first; the other is given up as soon as it cannot win.
    """
    pattern = as_pattern(pattern)
    choose("order", order, Order)
    deadline = None if seconds is None else time.perf_counter() + seconds
    sides: list[tuple[Partition, BipartiteGraph, float]] = [
        ("column", column_graph(pattern), 1.0),
        ("row", row_graph(pattern), reverse_cost),
    ]
    sides.sort(key=lambda side: side[1].largest_net * side[2])
    best, cost = None, float("inf")
    for partition, graph, unit in sides:
        limit = None if best is None else int(np.ceil(cost / unit - 1e-9))
        found = _distance2(graph, pattern, partition, order, limit, deadline)
        if found is not None:
            best, cost = found, found.num_colors * unit
    assert best is not None
    return best


def _distance2(
    graph: BipartiteGraph,
    pattern: SparsityPattern,
    partition: Partition,
    order: Order,
    limit: int | None,
    deadline: float | None,
) -> ColumnColors | RowColors | None:
    """The best partial distance-2 coloring of ``graph`` with fewer than ``limit`` colors, if there is one."""
    bound: int = graph.largest_net
    best: ColumnColors | RowColors | None = None
    names: tuple[Order, ...] = ("natural", "largest-first", "smallest-last") if order == "auto" else (order,)
    for name in names:
        colors = color_distance2(graph, vertex_order(graph, name), limit)
        if colors is None:
            if best is None:
                break  # far from what the other side has: another order does not bridge it
            continue
        limit = int(colors.max(initial=-1)) + 1
        best = _KIND[partition](colors, limit, bound, name, pattern.shape)
        if limit == bound or (deadline is not None and time.perf_counter() > deadline):
            break
    return best
