"""The range of products that each rank runs, cut so that the slowest rank ends as soon as possible.

The products of a plan are numbered end to end, those of its first direction before those of its second. The time of a
range is the fixed cost of a batch, once for each direction in it, plus the cost of each product. The least time in
which all products can be run is found by bisection: within a given time each rank in order takes all that it can.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._products.cost import UnitCost

_ALIKE = 1.5  # ranks whose speeds differ by less are taken as equal: such differences are noise


def cut(counts: Sequence[int], costs: Sequence[UnitCost], speeds: Sequence[float]) -> list[int]:
    """The start of the range of each rank, and the end, (ranks + 1,), by measured cost.

    Rank r runs ``speeds[r]`` times as fast as one of speed 1.

    >>> cut([10], [UnitCost(0.0, 1.0)], [1.0, 1.0, 1.0])
    [0, 4, 8, 10]
    """
    speeds = [1.0] * len(speeds) if max(speeds) < _ALIKE * min(speeds) else speeds
    total = sum(counts)
    low, high = 0.0, sum(cost.of(count) for cost, count in zip(costs, counts, strict=True)) / min(speeds)
    for _ in range(60):
        middle = (low + high) / 2
        if _fill(counts, costs, speeds, middle)[-1] >= total:
            high = middle
        else:
            low = middle
    bounds = _fill(counts, costs, speeds, high)
    return [*bounds[:-1], total]


def even(count: int, ranks: int) -> list[int]:
    """The bounds of equal ranges, (ranks + 1,), as ``torch.chunk`` and a DTensor cut: the last may be shorter or empty.

    >>> even(5, 4)
    [0, 2, 4, 5, 5]
    """
    length = -(-count // ranks)
    return [min(rank * length, count) for rank in range(ranks + 1)]


def pieces(counts: Sequence[int], start: int, stop: int) -> list[tuple[int, int]]:
    """The products of a range as one range for each direction, (0, 0) where it has none.

    >>> pieces([3, 4], 2, 5)
    [(2, 3), (0, 2)]
    """
    out, before = [], 0
    for count in counts:
        a, b = max(start - before, 0), min(stop - before, count)
        out.append((a, b) if a < b else (0, 0))
        before += count
    return out


def _fill(counts: Sequence[int], costs: Sequence[UnitCost], speeds: Sequence[float], seconds: float) -> list[int]:
    """The bounds of the ranges when each rank in order takes all that it can run in ``seconds``."""
    bounds, side, within = [0], 0, 0
    for speed in speeds:
        left = seconds * speed * (1 + 1e-9)
        taken = bounds[-1]
        while side < len(counts):
            able = int((left - costs[side].fixed) / costs[side].each) if left > costs[side].fixed else 0
            able = min(able, counts[side] - within)
            left -= costs[side].of(able)
            taken, within = taken + able, within + able
            if within < counts[side]:
                break
            side, within = side + 1, 0
        bounds.append(taken)
    return bounds
