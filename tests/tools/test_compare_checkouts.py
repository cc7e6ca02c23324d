"""Two checkouts are compared in fresh interpreters, and the table says what they took."""

from __future__ import annotations

from pathlib import Path

import pytest

import torchjac as tj

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import compare_checkouts

    return compare_checkouts


@pytest.mark.slow
def test_a_checkout_beside_itself(tool, capsys):
    src = str(Path(tj.__file__).resolve().parents[1])
    tool.main([src, src, "--rounds=1", "--repeats=1", "--seconds=0.001", "--only=network"])
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "problem"
    old, new, ratio = (float(word.replace(",", "")) for word in line.split()[-6:-3])
    assert old > 0
    assert new / old == pytest.approx(ratio, rel=0.01)


def test_every_problem_runs(tool):
    for prepare in tool.problems(tj).values():
        assert prepare()() is not None


def test_the_ratio_is_the_median_of_those_within_a_round(tool):
    old, new = ([{"p": time} for time in times] for times in ((1e-6, 2e-6, 9e-6), (2e-6, 2e-6, 9e-6)))
    assert tool.table(old, new).splitlines()[1].split() == ["p", "2.0", "2.0", "1.000", "1.000", "to", "2.000"]


def test_one_folder_is_not_enough(tool):
    with pytest.raises(SystemExit):
        tool.main(["src"])
