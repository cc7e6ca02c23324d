"""The summary of a plan as plain data, for JSON and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..._base.errors import OptionError
from ..._base.version import __version__
from ..._base.words import Args, Direction
from ..._coloring.color import color, color_best
from ..._coloring.colors import Coloring
from ..._function.flat import FlatFunction
from ..._function.leaves import Leaf
from ..._matrices.notes import Cost
from ..._products.cost import UnitCost
from ..._products.seeded import batch_cost
from ..._strategies.candidates import REVERSE_COST, Candidate
from .explain import Facts

UnitCosts = tuple[UnitCost | None, UnitCost | None]
"""The measured costs of a JVP and of a VJP; None where PyTorch has no formula."""

Json = dict[str, object]
"""An object of JSON."""

_BATCH = 8  # so many products are timed at once


def measure(function: FlatFunction, args: Args) -> UnitCosts:
    """Measure the cost of products at ``args``, in both directions."""
    return _measure(function, "forward", function.n, args), _measure(function, "reverse", function.m, args)


def _measure(function: FlatFunction, way: Direction, size: int, args: Args) -> UnitCost | None:
    if not size:
        return None
    try:
        with torch.no_grad():
            return batch_cost(function, way, min(size, _BATCH), args)
    except OptionError:  # no forward formula of an op
        return None


def with_colors(facts: Facts) -> Facts:
    """Return the facts with the colors that products would have, also where the plan accumulates and needs none."""
    pattern = facts.pattern
    if facts.choice.coloring is not None or facts.mode != "accumulate":
        return facts
    symmetric = facts.hessian and pattern == pattern.T
    coloring: Coloring = color(pattern, "symmetric") if symmetric else color_best(pattern, reverse_cost=REVERSE_COST)
    return replace(facts, choice=replace(facts.choice, coloring=coloring))


def summarize(facts: Facts, costs: Sequence[Cost] = (), units: UnitCosts | None = None) -> Json:
    """Return the facts that ``explain`` tells, and more, for JSON; ``units`` predict missing times."""
    pattern, coloring = facts.pattern, facts.choice.coloring
    m, n = pattern.shape
    return {
        "torchjac": __version__,
        "kind": "hessian" if facts.hessian else "jacobian",
        "shape": [m, n],
        "entries": pattern.nnz,
        "density": pattern.nnz / (m * n) if m * n else 0.0,
        "scope": pattern.scope,
        "inputs": [_leaf(leaf) for leaf in facts.inputs],
        "outputs": [_leaf(leaf) for leaf in facts.outputs],
        "mode": facts.mode,
        "products": facts.num_products,
        "at_once": facts.chunk,
        "why": facts.choice.why,
        "coloring": None
        if coloring is None
        else {
            "partition": coloring.partition,
            "colors": coloring.num_colors,
            "lower_bound": coloring.lower_bound,
            "order": coloring.order,
        },
        "strategies": [_strategy(candidate, facts, units) for candidate in facts.choice.candidates],
        "seconds": facts.seconds,
        "notes": [
            {"op": note.op, "reason": note.reason, "line": note.line, "entries": note.nonzeros}
            for note in pattern.notes
        ],
        "costs": [{"line": cost.line, "op": cost.op, "entries": cost.nonzeros} for cost in costs],
    }


def _leaf(leaf: Leaf) -> Json:
    dtype = str(leaf.dtype).removeprefix("torch.")
    return {"name": leaf.path, "shape": list(leaf.shape), "dtype": dtype, "start": leaf.start, "stop": leaf.stop}


def _strategy(candidate: Candidate, facts: Facts, units: UnitCosts | None) -> Json:
    seconds = candidate.seconds
    if seconds is None and units is not None and candidate.counts is not None:
        seconds = _predicted(units, candidate.counts)
    return {
        "name": candidate.name,
        "products": candidate.products,
        "seconds": seconds,
        "bytes": _bytes(candidate, facts),
        "chosen": candidate.chosen,
    }


def _predicted(units: UnitCosts, counts: tuple[int, int]) -> float | None:
    needed = [(unit, count) for unit, count in zip(units, counts, strict=True) if count]
    return None if any(unit is None for unit, _ in needed) else sum(unit.of(count) for unit, count in needed if unit)


def _bytes(candidate: Candidate, facts: Facts) -> int | None:
    """Return the bytes of the products and values of one call; None where the products are not counted."""
    if candidate.counts is None:
        return None
    (m, n), (forward, reverse) = facts.pattern.shape, candidate.counts
    dense = candidate.name.startswith("dense")
    return facts.itemsize * (m * n if dense else forward * m + reverse * n + facts.pattern.nnz)
