"""The choice of HVPs for a Hessian: star or acyclic colors, forward-over-reverse or reverse-over-reverse.

Forward-over-reverse is taken, unless a timed batch of reverse-over-reverse is clearly faster. Acyclic colors, which are
fewer, are taken where the products they save cost more than solving for the entries one level after another.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from .._base.words import Args, Direction, Mode, SymmetricRecovery
from .._coloring.color import color
from .._coloring.colors import SymmetricColors
from .._coloring.equations import each_level
from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._products.cost import UnitCost
from .._products.seeded import batch_cost
from .candidates import Candidate, Choice

_TINY = 50_000  # so few numbers in all products are not worth a measurement
_CLEARLY = 1.25  # so many times slower, forward-over-reverse is left
_FEWER = 0.75  # substitution is looked at where it needs at most this share of the products
_LEVELS = 128  # a longer substitution would add up too many rounding errors
_COMPILED_LEVELS = 40  # and a longer one takes minutes to compile
_LEVEL, _ENTRY = 12e-6, 4e-9  # seconds, of a substitution: measured on a CPU


def choose_symmetric(
    pattern: SparsityPattern,
    mode: Mode,
    recovery: SymmetricRecovery,
    function: FlatFunction,
    measuring: Callable[[], Args] | None,
    compiled: bool = False,
) -> Choice:
    """The products for ``mode`` and ``recovery``; for "auto" the cheapest. Batches are timed at ``measuring()``."""
    n = pattern.shape[0]
    full = pattern.nnz == n * n
    direct = None if full else color(pattern, "symmetric", recovery="direct" if recovery == "auto" else recovery)
    count = n if direct is None else direct.num_colors
    ways: list[Direction] = (
        ["forward", "reverse"] if mode == "auto" else ["reverse" if mode == "reverse" else "forward"]
    )
    costs = {}
    if measuring is not None and count * 2 * n > _TINY:
        colors = None if direct is None else direct.colors
        costs = {way: batch_cost(function, way, count, measuring(), colors) for way in ways}
    direction = ways[0]
    if len(costs) > 1 and costs["forward"].of(count) > _CLEARLY * costs["reverse"].of(count):
        direction = "reverse"
    coloring, levels = direct, 0
    if direct is not None and recovery == "auto" and costs:
        coloring, levels = _fewer(pattern, direct, costs[direction], _COMPILED_LEVELS if compiled else _LEVELS)
    candidates = [_candidate("dense", n, direction, None, direct is None)]
    if direct is not None:
        for way in ways:
            chosen = way == direction and coloring is direct
            candidates.append(_candidate(_name(direct), count, way, costs.get(way), chosen))
    if coloring is not direct and coloring is not None:
        name = f"{_name(coloring)}, {levels} levels"
        candidates.append(_candidate(name, coloring.num_colors, direction, costs.get(direction), True))
    return Choice(
        coloring, direction, tuple(candidates), "asked for" if mode != "auto" else _why(direction, bool(costs))
    )


def _why(direction: Direction, timed: bool) -> str:
    if direction == "reverse":
        return "clearly faster here than forward-over-reverse"
    return "not clearly slower than reverse-over-reverse" if timed else "the default"


def _fewer(pattern: SparsityPattern, direct: SymmetricColors, cost: UnitCost, most: int) -> tuple[SymmetricColors, int]:
    """The colors for substitution and its levels, where it is predicted to be faster; otherwise ``direct`` and 0."""
    if direct.num_colors <= 2:
        return direct, 0
    fewer = color(pattern, "symmetric", recovery="substitution")
    if not fewer.by_substitution or fewer.num_colors > _FEWER * direct.num_colors:
        return direct, 0
    saved = cost.of(direct.num_colors) - cost.of(fewer.num_colors)
    if saved < _ENTRY * pattern.nnz:
        return direct, 0
    levels = sum(1 for _ in islice(each_level(fewer.equations(pattern)), most + 1))
    worth = levels <= most and saved > _LEVEL * levels + _ENTRY * pattern.nnz
    return (fewer, levels) if worth else (direct, 0)


def _name(coloring: SymmetricColors) -> str:
    return "acyclic" if coloring.by_substitution else "star"


def _candidate(name: str, count: int, way: Direction, cost: UnitCost | None, chosen: bool) -> Candidate:
    seconds = None if cost is None else cost.of(count)
    counts = (count, 0) if way == "forward" else (0, count)
    return Candidate(name, f"{count:,} HVPs, {way}-over-reverse", seconds, chosen, counts)
