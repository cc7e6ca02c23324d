"""The text of ``plan.explain()``."""

from __future__ import annotations

from dataclasses import dataclass

from ._colors import Coloring
from ._pattern import SparsityPattern
from ._types import Mode


@dataclass(frozen=True)
class Facts:
    """What there is to say about a plan."""

    pattern: SparsityPattern
    coloring: Coloring | None
    mode: Mode
    num_products: int
    chunk: int
    seconds: dict[str, float]
    detected: bool
    mode_asked_for: bool
    itemsize: int


def explain(plan: Facts) -> str:
    """Pattern, colors, strategy, memory and preparation time of a plan, one line each."""
    m, n = plan.pattern.shape
    share = f"{100 * plan.pattern.nnz / (m * n):.3g}% dense" if m * n else "empty"
    found = f"{'detected' if plan.detected else 'given'} in {plan.seconds['detection']:.4f} s"
    rows = [
        ("function", f"{n:,} inputs -> {m:,} outputs"),
        ("pattern", f"{plan.pattern.nnz:,} entries ({share}), {plan.pattern.scope}, {found}"),
        ("coloring", f"{plan.coloring or 'none: every entry can be nonzero'}, in {plan.seconds['coloring']:.4f} s"),
        ("products", _products(plan)),
        ("memory", f"about {_mebibytes(plan)} for seeds, products and values of one call"),
    ]
    text = [f"{name:<9} {value}" for name, value in rows]
    return "\n".join([*text, *(f"note      {note}" for note in plan.pattern.notes)])


def _products(plan: Facts) -> str:
    m, n = plan.pattern.shape
    chunks = -(-plan.num_products // plan.chunk) if plan.num_products else 0
    at_once = "all at once" if chunks <= 1 else f"{plan.chunk} at a time"
    kind, instead = {
        "forward": ("JVPs", f"{n:,}, one for each input"),
        "reverse": ("VJPs", f"{m:,}, one for each output"),
    }.get(plan.mode, ("JVPs and VJPs", f"{min(m, n):,}"))
    saved = f" instead of {instead}" if plan.coloring is not None else ""
    why = "asked for" if plan.mode_asked_for else "the fewest products"
    return f"{plan.num_products} {kind}{saved}; {at_once}; {plan.mode} mode, {why}"


def _mebibytes(plan: Facts) -> str:
    numbers = min(plan.chunk, plan.num_products) * sum(plan.pattern.shape) + plan.pattern.nnz
    return f"{numbers * plan.itemsize / 2**20:.3g} MiB"
