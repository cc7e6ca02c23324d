"""One page about a plan that needs nothing else: the pattern to zoom into, colors, strategies, source lines."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from typing import Any

from ..._base.errors import PatternError
from ..._base.files import replacing
from ..._matrices.notes import Cost
from ..._matrices.pattern import SparsityPattern
from .explain import Facts, explain
from .pyramid import colors, entries, pyramid
from .summary import UnitCosts, summarize, with_colors


def write_report(path: str | os.PathLike[str], facts: Facts, units: UnitCosts | None = None) -> None:
    """Write the page; a file that was there is replaced when the new one is complete."""
    page = html(facts, units)
    with replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def html(facts: Facts, units: UnitCosts | None = None) -> str:
    """The page as text. Time and size grow with entries up to a few million, and no further."""
    facts = with_colors(facts)
    data: dict[str, Any] = {
        "summary": summarize(facts, costs_of(facts.pattern), units),
        "explain": explain(facts),
        "pyramid": pyramid(facts.pattern),
        "entries": entries(facts.pattern),
        "colors": colors(facts.choice.coloring, facts.pattern),
    }
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # </script> in somebody's source line
    return files(__package__).joinpath("report.html").read_text(encoding="utf-8").replace("__DATA__", text)


def costs_of(pattern: SparsityPattern) -> list[Cost]:
    """The lines that cost most entries; none where the pattern was given, or the function is gone."""
    try:
        return pattern.costs()
    except PatternError:
        return []
