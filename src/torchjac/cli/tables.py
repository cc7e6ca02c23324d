"""What the command line prints about a plan, and about a race of plans: tables of rich."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .._base.memory import text_bytes
from .._matrices.drawing import picture
from .._matrices.pattern import SparsityPattern

WIDTH = 120  # where it does not go to a terminal


def console(stderr: bool = False) -> Console:
    """Of the width of the terminal; wide enough for scripts where there is none."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=WIDTH)


def inspection(name: str, summary: dict[str, Any], pattern: SparsityPattern, lines: int) -> RenderableType:
    """Everything about a plan; ``lines``: how many source lines are named."""
    parts: list[RenderableType] = [Text(name, style="bold"), "", _facts(summary), ""]
    parts += [Text("\n".join(picture(pattern)), no_wrap=True), "", _strategies(summary["strategies"])]
    if summary["notes"]:
        rows = [[note["op"], note["reason"], _count(note["entries"]), note["line"]] for note in summary["notes"]]
        parts += ["", _table("What made the pattern larger, or local", ["op", "reason", ">added", "line"], rows)]
    if summary["costs"][:lines]:
        rows = [[_count(cost["entries"]), cost["op"], cost["line"]] for cost in summary["costs"][:lines]]
        parts += ["", _table("Lines that cost most entries", [">added", "op", "line"], rows)]
    return Group(*parts)


def _facts(s: dict[str, Any]) -> Table:
    (m, n), coloring, seconds = s["shape"], s["coloring"], s["seconds"]
    grid = Table.grid(padding=(0, 2))
    grid.add_row("function", f"{n:,} inputs -> {'a number' if s['kind'] == 'hessian' else f'{m:,} outputs'}")
    grid.add_row("pattern", f"{m:,} x {n:,}, {s['entries']:,} entries, {100 * s['density']:.3g}% dense, {s['scope']}")
    if coloring is None:
        grid.add_row("colors", "none: every entry can be nonzero")
    else:
        gap = coloring["colors"] - coloring["lower_bound"]
        verdict = "optimal" if gap == 0 else f"at most {gap} more than needed"
        text = f"{coloring['colors']} {coloring['partition']} colors, lower bound {coloring['lower_bound']}: {verdict}"
        grid.add_row("colors", text)
    chosen = "a program for the entries" if s["mode"] == "accumulate" else f"{s['products']:,} products"
    grid.add_row("chosen", f"{s['mode']} mode, {chosen}, {s['why']}")
    grid.add_row("prepared", ", ".join(f"{stage} {time_text(taken)}" for stage, taken in seconds.items()))
    return grid


def _strategies(strategies: list[dict[str, Any]]) -> Table:
    rows = [
        [
            ("> " if row["chosen"] else "  ") + row["name"],
            row["products"],
            time_text(row["seconds"]),
            "-" if row["bytes"] is None else text_bytes(row["bytes"]),
        ]
        for row in strategies
    ]
    table = _table("Strategies", ["  strategy", "products", ">predicted time", ">products and values"], rows)
    for row, strategy in zip(table.rows, strategies, strict=True):
        row.style = "bold" if strategy["chosen"] else None
    return table


def race(name: str, results: list[dict[str, Any]]) -> RenderableType:
    """How long ways to one Jacobian take, ours first."""
    ours = results[0].get("seconds")
    rows = []
    for result in results:
        ratio = f"{result['seconds'] / ours:,.1f} x" if ours and "seconds" in result else ""
        figures = [time_text(result.get(key)) for key in ("prepare", "first", "seconds")]
        peak = "" if result.get("peak") is None else text_bytes(result["peak"])
        rows.append([result["way"], *figures, ratio, peak, result.get("verdict") or result.get("error", "")])
    heads = ["way", ">prepare", ">first call", ">a call", ">ratio", ">memory", "result"]
    return Group(Text(name, style="bold"), "", _table("", heads, rows))


def _table(title: str, heads: list[str], rows: list[list[str]]) -> Table:
    """``>`` before a head: right-aligned."""
    table = Table(title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        right = head.startswith(">")
        table.add_column(head.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def time_text(seconds: float | None) -> str:
    """As people say it; a dash for None.

    >>> time_text(0.0123), time_text(90), time_text(7200), time_text(None)
    ('12.3 ms', '1.5 min', '2 h', '-')
    """
    if seconds is None:
        return "-"
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:,.3g} {unit}" if seconds / size < 1000 else f"{seconds / size:,.0f} {unit}"
    return f"{1e6 * seconds:.3g} us"


def _count(number: int) -> str:
    return f"{number:,}" if number else ""
