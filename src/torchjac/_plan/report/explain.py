"""The facts about a plan, and the text of ``plan.explain()`` that tells them."""

from __future__ import annotations

from dataclasses import dataclass

from ..._base.memory import text_bytes
from ..._base.words import Mode
from ..._function.leaves import Leaf
from ..._matrices.blocking import Blocking
from ..._matrices.pattern import SparsityPattern
from ..._strategies.candidates import Candidate, Choice


@dataclass(frozen=True)
class Facts:
    """The facts about a plan that its text, its JSON and its page tell."""

    pattern: SparsityPattern
    mode: Mode
    num_products: int
    chunk: int
    seconds: dict[str, float]
    detected: bool
    choice: Choice
    memory: int | None
    itemsize: int
    whole: int
    """The number of entries that can be nonzero; those of ``pattern`` are wanted."""
    blocks: tuple[Blocking, ...]
    """The dense blocks of each matrix; empty without a block layout."""
    hessian: bool = False
    inputs: tuple[Leaf, ...] = ()
    outputs: tuple[Leaf, ...] = ()


def explain(plan: Facts) -> str:
    """Return the pattern, colors, strategy, memory and times of a plan, a line for each, and its other candidates."""
    m, n = plan.pattern.shape
    share = f"{100 * plan.pattern.nnz / (m * n):.3g}% dense" if m * n else "empty"
    found = f"{'detected' if plan.detected else 'given'} in {plan.seconds['detection']:.4f} s"
    rows = [
        ("function", f"{n:,} inputs -> {'a number' if plan.hessian else f'{m:,} outputs'}"),
        ("pattern", f"{plan.pattern.nnz:,} entries ({share}), {plan.pattern.scope}, {found}"),
        *([("blocks", _dense_blocks(plan))] if plan.blocks else []),
        *([("entries", f"{plan.pattern.nnz:,} of {plan.whole:,} are wanted")] if plan.whole > plan.pattern.nnz else []),
        (
            "coloring",
            f"{plan.choice.coloring or _uncolored(plan)}, in {plan.seconds['coloring']:.4f} s",
        ),
        ("products", _products(plan)),
        ("memory", f"about {_mebibytes(plan)} for seeds, products and values of one call{_allowed(plan)}"),
        *zip(["choice", *[""] * len(plan.choice.candidates)], map(_candidate, plan.choice.candidates), strict=False),
    ]
    text = [f"{name:<9} {value}" for name, value in rows]
    return "\n".join([*text, *(f"note      {note}" for note in plan.pattern.notes)])


def _uncolored(plan: Facts) -> str:
    return "none needed" if plan.mode == "accumulate" else "none: every entry can be nonzero"


def _products(plan: Facts) -> str:
    m, n = plan.pattern.shape
    if plan.mode == "accumulate":
        return f"none: a program computes the entries themselves, {plan.choice.why}"
    chunks = -(-plan.num_products // plan.chunk) if plan.num_products else 0
    at_once = "all at once" if chunks <= 1 else f"{plan.chunk} at a time"
    if plan.hessian:
        saved = "" if plan.choice.coloring is None else f" instead of {n:,}, one for each input"
        return f"{plan.num_products} HVPs{saved}; {at_once}; {plan.mode}-over-reverse, {plan.choice.why}"
    kind, instead = {
        "forward": ("JVPs", f"{n:,}, one for each input"),
        "reverse": ("VJPs", f"{m:,}, one for each output"),
    }.get(plan.mode, ("JVPs and VJPs", f"{min(m, n):,}"))
    saved = f" instead of {instead}" if plan.choice.coloring is not None else ""
    return f"{plan.num_products} {kind}{saved}; {at_once}; {plan.mode} mode, {plan.choice.why}"


def _candidate(candidate: Candidate) -> str:
    predicted = "" if candidate.seconds is None else f", {1000 * candidate.seconds:.2f} ms predicted"
    numbers = "" if candidate.numbers is None else f", {candidate.numbers:,} numbers written"
    compiled = "" if candidate.compiled is None else f", {1000 * candidate.compiled:.2f} ms compiled"
    chosen = "  <-- chosen" if candidate.chosen else ""
    return f"{candidate.name:<15} {candidate.products}{predicted}{numbers}{compiled}{chosen}"


def _dense_blocks(plan: Facts) -> str:
    each = [f"{b.pattern.nnz:,} of {b.size[0]} x {b.size[1]}" for b in plan.blocks]
    numbers = sum(b.pattern.nnz * b.size[0] * b.size[1] for b in plan.blocks)
    share = f"{100 * plan.pattern.nnz / numbers:.3g}% of their numbers are entries" if numbers else "none"
    return f"{', '.join(each)}; {share}, found in {plan.seconds['blocks']:.4f} s"


def _allowed(plan: Facts) -> str:
    return "" if plan.memory is None else f", where {text_bytes(plan.memory)} are allowed"


def _mebibytes(plan: Facts) -> str:
    numbers = min(plan.chunk, plan.num_products) * sum(plan.pattern.shape) + plan.pattern.nnz
    return f"{numbers * plan.itemsize / 2**20:.3g} MiB"
