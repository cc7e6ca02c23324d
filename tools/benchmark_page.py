"""Write docs/benchmarks.md, and the numbers in README.md, from what was measured: ``python tools/benchmark_page.py``.

The numbers are those of benchmarks/results.json, which is ``make bench ARGS="... --json benchmarks/results.json"``.
Nothing on the page is typed by hand, nor what README.md has between its two marks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "benchmarks" / "results.json", ROOT / "docs" / "benchmarks.md"
README, MARKS = ROOT / "README.md", ("<!-- from benchmarks/results.json -->\n", "<!-- end -->\n")

TITLES = {
    "brusselator": "Brusselator, N x N grid, two species",
    "burgers": "Burgers' equation, by conv1d",
    "bundle": "Bundle adjustment",
    "mesh": "Finite elements on a triangle mesh",
    "mlp_batch": "A network applied sample by sample",
    "small": "Overhead of a small plan",
    "detection": "Finding the pattern of the Brusselator",
    "import_time": "Import",
    "scipy_bridges": "SciPy's solvers",
    "hessian": "Hessians",
    "accumulation": "Direct accumulation",
}
WORDS = {
    "hand-written": "the same colors, written by hand for this f",
    "plan.values": "`plan.values(x)`",
    "plan": "`plan(x)`, a sparse tensor",
    "colored products": "`plan.values(x)` with colored products insisted on",
    "f": "f itself",
}


def main() -> None:
    """Read and write."""
    report = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(report), encoding="utf-8")
    README.write_text(with_numbers(README.read_text(encoding="utf-8"), report), encoding="utf-8")


def with_numbers(text: str, report: dict[str, Any]) -> str:
    """README.md, with the numbers of ``report`` between its marks."""
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return before + MARKS[0] + summary(report) + MARKS[1] + after


def summary(report: dict[str, Any]) -> str:
    """The largest size of each problem beside products by hand, and in a sentence the smallest beside dense ways."""
    rows, faster = [], []
    for name in ("brusselator", "burgers", "bundle", "mesh"):
        sizes = report["results"][name]
        label, largest = list(sizes.items())[-1]
        hand, ours = (largest["times"][who] for who in ("hand-written", "plan.values"))
        shape = f"{largest['m']:,} x {largest['n']:,}"
        times = [seconds(hand["median_s"]), seconds(ours["median_s"]), f"{1 / ours['ratio']:.3g} x"]
        rows.append([f"{TITLES[name]}, {label}", shape, f"{largest['nnz']:,}", *times])
        small = next(iter(sizes.values()))["times"]
        dense = [time["median_s"] for way, time in small.items() if way.startswith("torch.func")]
        faster.append(min(dense) / small["plan"]["median_s"])
    head = ["", "Jacobian", "entries", "by hand", "`plan.values(x)`", "faster by"]
    return (
        f"{table(head, rows)}\n\n{setting(report)}. By hand: what somebody would write for this f alone, with the same "
        "colors and prebuilt seeds. At the smallest size of each, where a dense Jacobian fits, `plan(x)` is "
        f"{min(faster):.0f} to {max(faster):.0f} times faster than the best way of `torch.func`. "
        "[All numbers](docs/benchmarks.md).\n"
    )


def setting(report: dict[str, Any]) -> str:
    """Versions and machine."""
    known = {name: version for name, version in report["versions"].items() if "unknown" not in version}
    threads = report["machine"]["threads"]
    versions = ", ".join(f"{name} {version}" for name, version in known.items())
    return f"{versions}; {threads} thread{'s' * (threads != 1)} of {report['machine']['processor']}, float64"


def page(report: dict[str, Any]) -> str:
    """The whole page."""
    parts = [
        "# Benchmarks",
        "<!-- written by tools/benchmark_page.py from benchmarks/results.json; do not edit -->",
        f"{setting(report)}. "
        "Medians of interleaved runs in one process. A ratio is the median of the ratios within a round.\n\n"
        '`make bench ARGS="burgers --threads 1"` measures on your machine, `make bench` everything.',
    ]
    for name, result in report["results"].items():
        parts += [f"## {TITLES.get(name, name)}", *tables(result)]
    return "\n\n".join(parts) + "\n"


def tables(result: dict[str, Any]) -> Iterator[str]:
    """For each size: the facts in a line, and a table of times where things were timed beside each other."""
    loose: dict[str, dict[str, Any]] = {}
    for size, figures in result.items():
        times = figures.get("times") if isinstance(figures, dict) else None
        if times:
            yield f"**{size}** {facts(figures)}".rstrip()
            yield table(["", "median", "ratio", "rounds"], [row(name, time) for name, time in times.items()])
        else:
            loose |= {" / ".join(path): found for path, found in flat(figures, (size,))}
    if loose:
        columns = list(dict.fromkeys(key for found in loose.values() for key in found))
        yield table(
            ["", *columns], [[name, *(number(found.get(key)) for key in columns)] for name, found in loose.items()]
        )


def flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every dictionary of figures, with the names that lead to it."""
    if not isinstance(value, dict):
        yield path[:-1], {path[-1]: value}
        return
    if own := {key: found for key, found in value.items() if not isinstance(found, dict)}:
        yield path, own
    for key, found in value.items():
        if isinstance(found, dict):
            yield from flat(found, (*path, key))


def facts(figures: dict[str, Any]) -> str:
    """What is known of a problem, beside its times."""
    said = {key.replace("_", " "): value for key, value in figures.items() if not isinstance(value, dict)}
    if said.keys() >= {"m", "n", "nnz", "products", "mode"}:
        text = (
            f"{said['m']:,} x {said['n']:,}, {said['nnz']:,} entries, {said['products']} products, mode {said['mode']}"
        )
        return f"{text}; pattern in {seconds(said['detection s'])}, colors in {seconds(said['coloring s'])}"
    return ", ".join(f"{key} {number(value)}" for key, value in said.items())


def row(name: str, time: dict[str, Any]) -> list[str]:
    """One contestant."""
    return [WORDS.get(name, f"`{name}`"), seconds(time["median_s"]), f"{time['ratio']:.3g}", str(time["rounds"])]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, numbers to the right."""
    line = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, line, *rows])


def seconds(value: float) -> str:
    """A time, in the unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if value * scale >= 1 or unit == "us":
            return f"{value * scale:.3g} {unit}"
    raise AssertionError("the last unit takes everything")


def number(value: Any) -> str:
    """A figure as text; an empty cell for None."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
