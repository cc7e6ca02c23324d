"""A forecast for a plan on several ranks: time, messages and memory, modelled from the cost of a product here.

    time of a rank    a batch of its products, and for "rows" or "all" its received bytes over the bandwidth
    bytes moved       the bytes that a rank receives: the entries in its rows, or all entries, that it has not computed
    memory            f and the products of a chunk, the products that are kept, and the result

The time on P ranks is at least that of f and one product, which every rank runs: with more ranks than products, the
rest is idle. The bandwidth is assumed, unless it was measured; the messages of one rank go one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .._base.memory import text_bytes
from .._base.words import Args, Direction
from .._coloring.colors import Coloring
from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._products.cost import UnitCost, seconds_of
from .._products.seeded import Side
from .accumulated import Accumulated
from .ranges import cut, even
from .shard import parts_of
from .strategy import Strategy

BANDWIDTH, LATENCY = 1e9, 50e-6  # bytes a second and seconds a message, of a group on one machine or a good network


@dataclass(frozen=True)
class Forecast:
    """The forecast for ``ranks`` ranks.

    busy: ranks that have products. none, rows, all: seconds of a call with that ``gather``. moved_rows, moved_all:
    bytes that a rank receives. memory: bytes on a rank at the peak.
    """

    ranks: int
    busy: int
    none: float
    rows: float
    all: float
    moved_rows: int
    moved_all: int
    memory: int


@dataclass(frozen=True)
class Work:
    """The work of one call that ranks share: the products of each direction, their costs and their sizes.

    peaks: bytes of one product of each direction at its peak, f included, and of each further one. widths: numbers of
    a product. in_place: products are rows of the result (a rank has its own rows). serial: seconds that are not shared.
    """

    counts: Sequence[int]
    costs: Sequence[UnitCost]
    widths: Sequence[int]
    peaks: Sequence[tuple[int, int]]
    chunk: int
    nnz: int
    itemsize: int
    in_place: bool
    solved: bool
    serial: float = 0.0

    def taking(self, seconds: float) -> Work:
        """Return this work with costs scaled so that one rank alone takes ``seconds``."""
        scale = seconds / max(forecast(self, 1).none, 1e-12)
        costs = [UnitCost(scale * cost.fixed, scale * cost.each) for cost in self.costs]
        return replace(self, costs=costs, serial=scale * self.serial)


def measure(
    function: FlatFunction,
    args: Args,
    strategy: Strategy,
    pattern: SparsityPattern,
    coloring: Coloring | None,
    direction: Direction,
) -> Work:
    """The work of one call, from a few products run eagerly at ``args``."""
    itemsize = function.dtype.itemsize
    if isinstance(strategy, Accumulated):  # there is nothing to share
        taken = seconds_of(lambda: strategy.values(args))
        return Work((), (), (), (), 1, pattern.nnz, itemsize, in_place=True, solved=False, serial=taken)
    parts = parts_of(function, coloring, direction)
    sides = [Side(function, way, colors, count, trial=True) for way, colors, count in parts]
    peaks = [(side.peak(args, 1), side.peak(args, min(2, side.count))) for side in sides]
    return Work(
        counts=[side.count for side in sides],
        costs=[side.unit_cost(args) for side in sides],
        widths=[side.width for side in sides],
        peaks=[(one, max(two - one, 0)) for one, two in peaks],
        chunk=max((side.products.chunk for side in strategy.sides), default=1),
        nnz=pattern.nnz,
        itemsize=itemsize,
        in_place=coloring is None and direction == "reverse",
        solved=coloring is not None and coloring.by_substitution,
    )


def forecast(work: Work, ranks: int, bandwidth: float = BANDWIDTH, latency: float = LATENCY) -> Forecast:
    """The forecast of ``work`` on so many ranks of equal speed."""
    bounds = cut(work.counts, work.costs, [1.0] * ranks) if work.counts else even(0, ranks)
    most = max(b - a for a, b in pairwise(bounds))
    seconds = work.serial + max((_seconds(work, a, b) for a, b in pairwise(bounds)), default=0)
    here = 1 / ranks  # the share of the entries that a rank needs and has computed itself
    size = work.nnz * work.itemsize
    if work.solved:
        size = sum(c * w for c, w in zip(work.counts, work.widths, strict=True)) * work.itemsize
    moved_all = 0 if not work.counts else int(size * (1 - here))
    moved_rows = moved_all if work.solved else 0 if work.in_place else int(size * here * (1 - here))
    kept = most * max(work.widths, default=0) * work.itemsize
    peak = max((first + (min(work.chunk, most) - 1) * each for first, each in work.peaks), default=0)
    talk = latency * (ranks - 1)  # each rank sends its status before any numbers
    busy = sum(b > a for a, b in pairwise(bounds))
    none = seconds + talk
    return Forecast(
        ranks,
        busy,
        none,
        none + (talk if moved_rows else 0) + moved_rows / bandwidth,
        none + (talk if moved_all else 0) + moved_all / bandwidth,
        moved_rows,
        moved_all,
        int(peak + kept + work.nnz * work.itemsize * here),
    )


def _seconds(work: Work, start: int, stop: int) -> float:
    total, before = 0.0, 0
    for count, cost in zip(work.counts, work.costs, strict=True):
        mine = max(0, min(stop - before, count) - max(start - before, 0))
        total, before = total + cost.of(mine), before + count
    return total


def table(work: Work, sizes: Sequence[int]) -> list[str]:
    """The forecast for each number of ranks, as lines of ``plan.explain(ranks=...)``."""
    one = forecast(work, 1)
    head = f"predicted from what a product costs here, {text_bytes(BANDWIDTH)}/s and {1e6 * LATENCY:.0f} us a message"
    lines = [f"shared    {head}; one rank: {1000 * one.none:.3g} ms"]
    for size in sizes:
        f = forecast(work, size)
        times = f"{1000 * f.none:.3g} ms ({one.none / f.none:.2g}x) for shares" if f.none else "nothing to do"
        times += (
            f", {1000 * f.rows:.3g} ms for rows, {1000 * f.all:.3g} ms ({one.none / max(f.all, 1e-12):.2g}x) for all"
        )
        idle = f"; {size - f.busy} of them idle" if f.busy < size else ""
        moved = f"{text_bytes(f.moved_rows)} or {text_bytes(f.moved_all)} to each"
        lines.append(f"{size:>9,} ranks: {times}; {moved}; {text_bytes(f.memory)} a rank{idle}")
    return lines
