"""Moves between files are counted: in calls and returns, and in the package alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import torchjac as tj

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import count_moves

    return count_moves


def test_a_warm_call_visits_fewer_files_than_planning(tool, capsys):
    src = str(Path(tj.__file__).resolve().parents[1])
    tool.main(["--src", src, "--json"])
    counts = json.loads(capsys.readouterr().out)
    assert len(counts) == 4
    for count in counts.values():
        assert count["moves"] == len(count["trail"]) - 1 == sum(count["entered"].values()) - 1 > 0
        assert count["files"] == len(count["entered"]) > 1
        assert "_plan/jacobian.py" in count["entered"]
    for name in ("plan_jacobian", "plan_hessian"):
        planning, call = counts[f"{name}(f, x)"], counts[f"plan = {name}(f, x); plan(x)"]
        assert call["files"] < planning["files"]
        assert call["moves"] < planning["moves"]
    assert tool.text("plan(x)", call).splitlines()[2].count(" > ") == call["moves"]


def test_calls_and_returns_are_moves_and_frames_of_others_are_not(tool, tmp_path):
    files = {"a": "def run(g, h): return g(lambda: h(lambda: 1)) + h(lambda: 2)", "b": "def call(f): return f()"}
    functions = {}
    for name, code in files.items():
        exec(compile(code, str(tmp_path / f"{name}.py"), "exec"), functions)
    assert tool.trail(tmp_path, lambda: functions["run"](lambda f: f(), functions["call"])) == [
        *("a.py", "b.py", "a.py", "b.py", "a.py"),  # by way of g, which is here: into h, to its argument and back
        *("b.py", "a.py", "b.py", "a.py"),
    ]


def test_another_torchjac_is_refused(tool, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))  # undoes what the tool inserts
    with pytest.raises(SystemExit, match="and not that of"):
        tool.main(["--src", str(tmp_path)])
