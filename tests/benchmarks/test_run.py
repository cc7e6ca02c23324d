"""The benchmarks run: quick mode gives valid JSON with positive medians for every one that the runner finds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
OURS = {"brusselator", "burgers", "bundle", "detection", "import_time", "mesh", "mlp_batch", "scipy_bridges", "small"}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(FOLDER / "run.py"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


class Clock:
    """It goes on where it is told to."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def medians(result: Any) -> list[float]:
    if not isinstance(result, dict):
        return []
    own = [result["median_s"]] if "median_s" in result else []
    return own + [median for value in result.values() for median in medians(value)]


def test_quick_run_writes_json_with_positive_medians(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run(*sorted(OURS), "--quick", "--json", out)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["quick"] is True
    assert report["versions"].keys() == {"torchjac", "torch", "python"}
    assert report["results"].keys() == OURS
    for name, result in report["results"].items():
        assert medians(result), name
        assert min(medians(result)) > 0, name
        assert name in done.stdout


def test_a_problem_is_timed_beside_its_peers(tmp_path: Path) -> None:
    done = run("burgers", "--quick", "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((tmp_path / "out.json").read_text())["results"]["burgers"].values()
    assert {"hand-written", "plan.values", "plan", "f", "torch.func.jacfwd"} < set(result["times"])
    assert result["times"]["hand-written"]["ratio"] == 1
    assert result["difference"] == 0
    assert (result["nnz"], result["products"]) == (118, 3)


def test_an_unknown_name_is_refused() -> None:
    done = run("brusselators")
    assert done.returncode == 2
    assert "there is no benchmark brusselators; there are" in done.stderr
    assert all(name in done.stderr for name in OURS)


def test_interleaved_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import timing

    calls: list[str] = []
    taken = {"a": [9.0, 1.0, 2.0, 4.0], "b": [9.0, 3.0, 2.0, 16.0]}  # the first to warm up
    monkeypatch.setattr(timing, "time", clock := Clock())

    def run(name: str) -> None:
        calls.append(name)
        clock.sleep(taken[name][calls.count(name) - 1])

    times = timing.interleaved({"a": lambda: run("a"), "b": lambda: run("b")}, rounds=3, warm_up=1)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert times["a"] == {"median_s": 2.0, "ratio": 1.0, "rounds": 3}
    assert times["b"] == {"median_s": 3.0, "ratio": 3.0, "rounds": 3}  # of 3, 1 and 4


def test_interleaved_ends_after_the_round_in_which_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import timing

    monkeypatch.setattr(timing, "time", clock := Clock())
    times = timing.interleaved({"a": lambda: clock.sleep(2.0)}, rounds=9, seconds=5.0)
    assert times["a"]["rounds"] == 3
