"""The choice of products for a Jacobian: dense or colored, forward, reverse or both; the least predicted cost wins.

The cost is the number of products times the cost of one. Where one direction needs several times the products of the
other, or where all products take only a moment, the choice needs no clock; in between, a batch of each is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .._base.errors import OptionError
from .._base.words import Args, Direction, Mode, Partition
from .._coloring.color import color, color_best
from .._coloring.colors import BidirectionalColors, Coloring, ColumnColors
from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._products.cost import UnitCost
from .._products.seeded import batch_cost

# With as many VJPs as JVPs, reverse mode is taken: f runs once instead of once a chunk, and gradients through its
# results are always right.
REVERSE_COST = 0.99
_TINY, _TINY_REVERSE_COST = 50_000, 0.6  # with so few numbers in all products, the cost is PyTorch's overhead
_WORTH_TIMING = 4_000  # for one Jacobian alone, fewer products are cheaper than a batch of each to compare
_OBVIOUS = 3  # with so many times the products, a direction loses
_WORTH_BOTH = 8  # products of both directions are looked for where one direction alone takes more

# Direct accumulation is tried for at least so many entries (fewer where it is compiled), at most so many in a row.
_LARGE, _LARGE_COMPILED, _FEW_PER_ROW = 20_000, 2_000, 256

_PARTITIONS: dict[Mode, Partition] = {"forward": "column", "reverse": "row", "bidirectional": "bidirectional"}
_KINDS: dict[Direction, str] = {"forward": "JVPs", "reverse": "VJPs"}


@dataclass(frozen=True)
class Candidate:
    """One way to build the Jacobian: its products in words, and the seconds predicted for them, or None.

    ``counts``: the JVPs and VJPs, or lower bounds of them; None where they were not looked for. ``compiled``: seconds
    that the compiled program was measured to take. ``numbers``: numbers written to memory, where nothing was timed.
    """

    name: str
    products: str
    seconds: float | None = None
    chosen: bool = False
    counts: tuple[int, int] | None = None
    compiled: float | None = None
    numbers: int | None = None


@dataclass(frozen=True)
class Choice:
    """The chosen products, the candidates, and the reason. Without a coloring, ``direction`` has dense products."""

    coloring: Coloring | None
    direction: Direction
    candidates: tuple[Candidate, ...]
    why: str

    @property
    def mode(self) -> Mode:
        """The mode of the chosen products."""
        return "bidirectional" if isinstance(self.coloring, BidirectionalColors) else self.direction

    def without_accumulation(self, refusal: str) -> Choice:
        """Return this choice with a row that says why direct accumulation was refused."""
        row = Candidate("accumulate", f"stops at {refusal}")
        return replace(self, candidates=(*self.candidates, row))

    def with_accumulation(self, program: str, both: Measured, chosen: bool) -> Choice:
        """The choice between direct accumulation, ``program``, and the products chosen before, both timed."""
        (mine, others), (compiled, others_compiled) = both.eager, both.compiled
        rows = [
            replace(c, seconds=others, chosen=not chosen, compiled=others_compiled) if c.chosen else c
            for c in self.candidates
        ]
        rows.append(Candidate("accumulate", program, mine, chosen, compiled=compiled))
        if not chosen:
            return replace(self, candidates=tuple(rows))
        return Choice(None, self.direction, tuple(rows), "the least measured time")

    def beside_accumulation(self, program: str, numbers: int, product: int) -> Choice:
        """The choice of direct accumulation, which was asked for; each candidate says how many numbers it writes."""
        rows = [
            c if c.counts is None else replace(c, chosen=False, numbers=sum(c.counts) * product)
            for c in self.candidates
        ]
        rows.append(Candidate("accumulate", program, chosen=True, numbers=numbers))
        return Choice(None, self.direction, tuple(rows), "asked for")


@dataclass(frozen=True)
class Measured:
    """The measured seconds of (direct accumulation, products): run op by op, and compiled."""

    eager: tuple[float, float]
    compiled: tuple[float, float] | tuple[None, None] = (None, None)


@dataclass(frozen=True)
class Prices:
    """The cost of JVPs and of VJPs: in seconds where they were measured, otherwise relative to each other."""

    forward: UnitCost
    reverse: UnitCost
    measured: bool
    why: str

    def of(self, forward: int, reverse: int) -> float:
        """The cost of so many JVPs and VJPs."""
        return self.forward.of(forward) + self.reverse.of(reverse)

    def seconds(self, forward: int, reverse: int) -> float | None:
        """The seconds of so many JVPs and VJPs; None where nothing was measured."""
        return self.of(forward, reverse) if self.measured else None

    def reverse_cost(self, count: int) -> float:
        """The cost of a VJP where a JVP costs 1, in batches of ``count``."""
        ratio = self.of(0, count) / max(self.of(count, 0), 1e-9)
        return float(min(max(ratio, 0.01), 100.0))


def choose(
    pattern: SparsityPattern,
    mode: Mode,
    function: FlatFunction,
    measuring: Callable[[], Args] | None = None,
    once: bool = False,
) -> Choice:
    """The products for ``mode``; for "auto" the cheapest. Batches are timed at the arguments ``measuring()``.

    ``once``: the products will run a single time, so that a measurement has less to save.
    """
    m, n = pattern.shape
    full = pattern.nnz == m * n and m * n > 0
    bounds = (n, m) if full else (_largest(pattern.rows), _largest(pattern.indices))
    asked = mode != "auto" and not (full and mode == "bidirectional")
    cheap = once and min(bounds) < _WORTH_TIMING
    prices = _prices(function, None if asked or cheap else measuring, bounds, m + n)
    direction: Direction
    if full:
        cheaper: Direction = "forward" if prices.of(n, 0) < prices.of(0, m) else "reverse"
        direction = mode if mode == "forward" or mode == "reverse" else cheaper
        coloring: Coloring | None = None
    else:
        coloring = color(pattern, _PARTITIONS[mode], reverse_cost=REVERSE_COST) if asked else _best(pattern, prices)
        direction = "forward" if isinstance(coloring, ColumnColors) else "reverse"
    candidates = _candidates(pattern, coloring, direction, prices, bounds, asked)
    return Choice(coloring, direction, candidates, "asked for" if asked else _why(coloring, direction, bounds, prices))


def few_products(pattern: SparsityPattern) -> int:
    """A lower bound of the products of a one-sided coloring, known without coloring."""
    return min(_largest(pattern.rows), _largest(pattern.indices))


def worth_accumulating(pattern: SparsityPattern, products: int, compiled: bool) -> bool:
    """Whether a program for the nonzeros may save more than it costs to build."""
    per_row = pattern.nnz / max(min(pattern.shape), 1)
    large = pattern.nnz >= (_LARGE_COMPILED if compiled else _LARGE)
    return large and products > 1 and pattern.scope == "global" and per_row <= _FEW_PER_ROW


def choose_some(
    pattern: SparsityPattern,
    entries: SparsityPattern,
    mode: Mode,
    function: FlatFunction,
    measuring: Callable[[], Args] | None = None,
) -> Choice:
    """The cheaper of two partial colorings, where only ``entries`` of the pattern are wanted; else as ``choose``."""
    if mode == "bidirectional":
        raise OptionError(
            "mode='bidirectional' for some of the entries",
            expected="'auto', 'forward' or 'reverse'",
            why="products of both directions that leave entries out are not looked for",
        )
    asked = mode != "auto"
    both = {"forward": color(pattern, "column", entries=entries), "reverse": color(pattern, "row", entries=entries)}
    counts = both["forward"].num_colors, both["reverse"].num_colors
    prices = _prices(function, None if asked else measuring, counts, sum(pattern.shape))
    cheaper = "forward" if prices.of(counts[0], 0) < prices.of(0, counts[1]) else "reverse"
    direction: Direction = "forward" if (mode if asked else cheaper) == "forward" else "reverse"
    rows = [_row(f"partial {way}", way, both[way].num_colors, prices, way == direction) for way in _KINDS]
    why = "asked for" if asked else _why(both[direction], direction, counts, prices)
    return Choice(both[direction], direction, tuple(rows), why)


def _why(coloring: Coloring | None, direction: Direction, bounds: tuple[int, int], prices: Prices) -> str:
    forward, reverse = bounds if coloring is None else _counts(coloring)
    mine, others = (forward, bounds[1]) if direction == "forward" else (reverse, bounds[0])
    one_sided = not isinstance(coloring, BidirectionalColors)
    fewest = not one_sided or mine <= others
    return "the fewest products" if fewest and not prices.measured else prices.why


def _largest(places: npt.NDArray[np.integer]) -> int:
    """The most entries in a row (or a column), from the row (or column) of each entry: no fewer products suffice."""
    return int(np.bincount(places).max()) if places.size else 0


def _prices(
    function: FlatFunction, measuring: Callable[[], Args] | None, bounds: tuple[int, int], numbers: int
) -> Prices:
    few, many = min(bounds), max(bounds)
    if few * numbers <= _TINY and measuring is not None:
        why = "small, and JVPs cost more"
        return Prices(UnitCost(0, 1), UnitCost(0, _TINY_REVERSE_COST), False, why)
    if measuring is None or many > _OBVIOUS * few:
        return Prices(UnitCost(0, 1), UnitCost(0, REVERSE_COST), False, "the fewest products")
    args = measuring()
    costs = {way: batch_cost(function, way, count, args) for way, count in zip(_KINDS, bounds, strict=True)}
    return Prices(costs["forward"], costs["reverse"], True, "the least predicted time")


def _best(pattern: SparsityPattern, prices: Prices) -> Coloring:
    """The cheaper of a column and a row coloring, or products of both directions where they save much."""
    reverse_cost = prices.reverse_cost(max(few_products(pattern), 1))
    best: Coloring = color_best(pattern, reverse_cost=reverse_cost)
    if best.num_colors <= _WORTH_BOTH:
        return best
    both = color(pattern, "bidirectional", reverse_cost=reverse_cost)
    return (
        both
        if 2 * both.num_colors <= best.num_colors and prices.of(*_counts(both)) < prices.of(*_counts(best))
        else best
    )


def _counts(coloring: Coloring) -> tuple[int, int]:
    """The numbers of JVPs and VJPs."""
    if isinstance(coloring, BidirectionalColors):
        return coloring.num_forward, coloring.num_reverse
    return (coloring.num_colors, 0) if isinstance(coloring, ColumnColors) else (0, coloring.num_colors)


def _candidates(
    pattern: SparsityPattern,
    coloring: Coloring | None,
    direction: Direction,
    prices: Prices,
    bounds: tuple[int, int],
    asked: bool,
) -> tuple[Candidate, ...]:
    m, n = pattern.shape
    rows = []
    sides: list[tuple[Direction, int, int]] = [("forward", n, bounds[0]), ("reverse", m, bounds[1])]
    for way, dense, bound in sides:
        chosen = direction == way and not isinstance(coloring, BidirectionalColors)
        rows.append(_row(f"dense {way}", way, dense, prices, chosen and coloring is None))
        if coloring is not None and chosen:
            rows.append(_row(f"colored {way}", way, coloring.num_colors, prices, True))
        elif coloring is not None:
            lost = "not asked for" if asked else "not colored in full: cannot win"
            text = f"{bound:,} {_KINDS[way]} or more, {lost}"
            rows.append(Candidate(f"colored {way}", text, counts=_by_direction(way, bound)))
    return (*rows, _bidirectional(coloring, prices, asked))


def _row(name: str, way: Direction, count: int, prices: Prices, chosen: bool) -> Candidate:
    counts = _by_direction(way, count)
    return Candidate(name, f"{count:,} {_KINDS[way]}", prices.seconds(*counts), chosen, counts)


def _by_direction(way: Direction, count: int) -> tuple[int, int]:
    return (count, 0) if way == "forward" else (0, count)


def _bidirectional(coloring: Coloring | None, prices: Prices, asked: bool) -> Candidate:
    if isinstance(coloring, BidirectionalColors):
        forward, reverse = _counts(coloring)
        text, seconds = f"{forward:,} JVPs, {reverse:,} VJPs", prices.seconds(forward, reverse)
        return Candidate("bidirectional", text, seconds, True, (forward, reverse))
    if coloring is None:
        return Candidate("bidirectional", "cannot win: every entry can be nonzero")
    if asked:
        return Candidate("bidirectional", "not asked for")
    few = coloring.num_colors <= _WORTH_BOTH
    return Candidate(
        "bidirectional", f"not colored: {coloring.num_colors} are few already" if few else "would save too little"
    )
