"""The page of benchmarks says what was measured, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import benchmark_page

    return benchmark_page


def test_the_page_is_that_of_the_results(tool):
    report = json.loads(tool.RESULTS.read_text(encoding="utf-8"))
    assert not report["quick"], "these are no measurements"
    assert tool.PAGE.read_text(encoding="utf-8") == tool.page(report), "run `make bench-page`"
    readme = tool.README.read_text(encoding="utf-8")
    assert readme == tool.with_numbers(readme, report), "run `make bench-page`"
    assert readme.count(" x |\n") == 4


def test_every_time_is_on_the_page(tool):
    times = {
        "hand-written": {"median_s": 0.00125, "ratio": 1.0, "rounds": 41},
        "x": {"median_s": 2.0, "ratio": 1600.0, "rounds": 5},
    }
    report = {
        "versions": {"torchjac": "1"},
        "machine": {"threads": 1, "processor": "p"},
        "quick": False,
        "results": {"burgers": {"n=9": {"nnz": 7, "times": times}}, "small": {"n=1": {"overhead_us": 43.3}}},
    }
    page = tool.page(report)
    assert "| the same colors, written by hand for this f | 1.25 ms | 1 | 41 |" in page
    assert "| `x` | 2 s | 1.6e+03 | 5 |" in page
    assert "| n=1 | 43.3 |" in page


@pytest.mark.parametrize(("value", "text"), [(0.25, "250 ms"), (3.0, "3 s"), (4.2e-5, "42 us"), (1e-9, "0.001 us")])
def test_seconds(tool, value, text):
    assert tool.seconds(value) == text
