"""The HTML page about a plan, complete in one file: a pattern to zoom into, colors, strategies, source lines."""

from __future__ import annotations

import json
import os
from importlib.resources import files

from ..._base.errors import PatternError
from ..._base.files import replacing
from ..._matrices.notes import Cost
from ..._matrices.pattern import SparsityPattern
from .explain import Facts, explain
from .pyramid import colors, entries, pyramid
from .summary import UnitCosts, summarize, with_colors


def write_report(path: str | os.PathLike[str], facts: Facts, units: UnitCosts | None = None) -> None:
    """Write the page to a file; an older file is replaced only when the new one is complete."""
    page = html(facts, units)
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def html(facts: Facts, units: UnitCosts | None = None) -> str:
    """Return the page as text; its size and time grow with the entries up to a few million, and no further."""
    facts = with_colors(facts)
    data: dict[str, object] = {
        "summary": summarize(facts, costs_of(facts.pattern), units),
        "explain": explain(facts),
        "pyramid": pyramid(facts.pattern),
        "entries": entries(facts.pattern),
        "colors": colors(facts.choice.coloring, facts.pattern),
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # a source line may hold </script>
    return files(__package__).joinpath("report.html").read_text(encoding="utf-8").replace("__DATA__", text)


def costs_of(pattern: SparsityPattern) -> list[Cost]:
    """Return the source lines that cost most entries; none where the pattern was given, or the function is gone."""
    try:
        return pattern.costs()
    except PatternError:
        return []
