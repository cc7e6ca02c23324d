"""``torchjac`` as people and scripts run it."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import torchjac as tj
from torchjac.__main__ import main
from torchjac.cli import compare
from torchjac.cli.target import target

CliRunner = pytest.importorskip("typer.testing", reason="the extra cli is not installed").CliRunner
app = importlib.import_module("torchjac.cli").app

CODE = """
import time, warnings
import torch

def stencil(u):
    return u * u.roll(1) + u.roll(-1)

def energy(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2).sum()

def mixed(x, y, k):
    return {"a": x.sin(), "b": x[:3] * y * k}

def broken(x):
    raise RuntimeError("no luck")

def decides(x):
    return x * x.sum() if x[0] > -1 else x

def slow(x):
    time.sleep(60)
    return x

def large(x):
    return x * torch.ones(10**9, dtype=x.dtype).sum()
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("functions.py").write_text(CODE)
    yield "functions.py"
    sys.modules.pop("functions", None)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def words(text: str) -> str:
    return " ".join(text.split())


# ---- inspect


def test_inspect_shows_everything(code):
    done = run("inspect", f"{code}:stencil", "-i", "u:float64[40]")
    assert done.exit_code == 0, done.output
    text = words(done.stdout)
    for part in (
        "function 40 inputs -> 40 outputs",
        "pattern 40 x 40, 120 entries, 7.5% dense, global",
        "4 row colors, lower bound 3: at most 1 more than needed",
        "dense forward 40 JVPs",
        "> colored reverse 4 VJPs",
        "Lines that cost most entries",
        "functions.py:6: return u * u.roll(1) + u.roll(-1)",
    ):
        assert part in text, part
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_fallbacks_are_named_with_their_lines(code):
    done = run("inspect", f"{code}:decides", "-i", "float64[9]", "--lines", "0")
    assert "What made the pattern larger, or local" in done.stdout
    assert "functions.py:18:" in done.stdout
    assert "holds where the same" in words(done.stdout)
    assert "Lines that cost" not in done.stdout


def test_json_is_all_that_is_on_standard_output(code):
    done = run("inspect", f"{code}:stencil", "-i", "u:float64[40]", "--json", "--save", "p.npz")
    facts = json.loads(done.stdout)
    assert facts["target"] == "functions.py:stencil"
    assert (facts["entries"], facts["shape"], facts["products"]) == (120, [40, 40], 4)
    dense = next(s for s in facts["strategies"] if s["name"] == "dense forward")
    assert dense["seconds"] > 0
    assert dense["bytes"] == 40 * 40 * 8
    assert done.stderr == "plan      p.npz\n"


def test_the_saved_plan_is_one(code):
    assert run("inspect", f"{code}:stencil", "-i", "u:float64[40]", "--save", "p.npz").exit_code == 0

    def stencil(u):
        return u * u.roll(1) + u.roll(-1)

    u = torch.rand(40, dtype=torch.float64)
    J = tj.load_plan("p.npz", stencil)(u)
    torch.testing.assert_close(J.to_dense(), torch.func.jacrev(stencil)(u))


@pytest.mark.parametrize(
    ("name", "starts"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.html", b"<!doctype html>")]
)
def test_pictures(code, name, starts):
    done = run("inspect", f"{code}:stencil", "-i", "u:float64[40]", "--plot", name)
    assert done.exit_code == 0, done.output
    assert Path(name).read_bytes().startswith(starts)
    assert sorted(p.name for p in Path.cwd().iterdir() if p.suffix != ".py" and p.is_file()) == [name]


def test_hessians_and_options(code):
    done = run("inspect", f"{code}:energy", "--hessian", "-i", "x:float64[20]", "--json")
    facts = json.loads(done.stdout)
    assert facts["kind"] == "hessian"
    assert facts["coloring"]["partition"] == "symmetric"
    done = run("inspect", f"{code}:stencil", "-i", "u:float64[40]", "--json", "--mode", "forward", "--memory", "1MiB")
    assert json.loads(done.stdout)["mode"] == "forward"


def test_colors_are_shown_where_the_plan_accumulates(code):
    done = run("inspect", f"{code}:stencil", "-i", "u:float64[40]", "--json", "--mode", "accumulate")
    facts = json.loads(done.stdout)
    assert facts["mode"] == "accumulate"
    assert facts["coloring"]["lower_bound"] == 3


# ---- what goes wrong


@pytest.mark.parametrize(
    ("arguments", "exit_code", "complaint"),
    [
        (["inspect"], 2, "Missing argument"),
        (["inspect", "functions.py:stencil", "--nonsense"], 2, "No such option"),
        (["inspect", "functions.py:stensil"], 2, "write instead: functions.py:stencil"),
        (["inspect", "functions.py:stencil"], 2, "--input for every parameter"),
        (["inspect", "functions.py:stencil", "-i", "float64[9]", "--save", "p.zip"], 2, "ends with .npz"),
        (["inspect", "functions.py:stencil", "-i", "float64[9]", "--plot", "p.bmp"], 2, ".png, .svg, .pdf, .html"),
        (["inspect", "functions.py:stencil", "-i", "float64[9]", "--plot", "no/p.png"], 2, "there is no folder no"),
        (["inspect", "functions.py:stencil", "-i", "float64[9]", "--mode", "sideways"], 2, "mode='sideways'"),
        (["inspect", "functions.py:stencil", "-i", "float64[9]", "--memory", "lots"], 2, "memory='lots'"),
        (["inspect", "functions.py:stencil", "-i", "complex64[9]"], 2, "floating point tensor"),
        (["inspect", "functions.py:broken", "-i", "float64[9]"], 1, "RuntimeError: no luck\n  at: "),
        (["inspect", "functions.py:stencil", "--hessian", "-i", "float64[9]"], 1, "one number|scalar"),
        (["compare", "functions.py:stencil", "-i", "float64[9]", "--seconds", "0"], 2, "--seconds"),
    ],
)
def test_errors_are_text_and_a_code(code, arguments, exit_code, complaint):
    done = run(*arguments)
    assert done.exit_code == exit_code, done.output
    assert any(words(part) in words(done.stderr.replace("│", " ")) for part in complaint.split("|"))
    assert "Traceback" not in done.output
    assert done.stdout == ""


def test_debug_shows_the_traceback(code):
    done = run("inspect", f"{code}:broken", "-i", "float64[9]", "--debug")
    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert 'raise RuntimeError("no luck")' in done.stderr


def test_an_interrupted_command_leaves_nothing(code, monkeypatch):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)  # when the file is written, but not yet there
    for arguments in (["--save", "p.npz"], ["--plot", "p.html"]):
        done = run("inspect", f"{code}:stencil", "-i", "u:float64[9]", *arguments)
        assert done.exit_code == 130
        assert "interrupted" in done.stderr
    assert [p.name for p in Path.cwd().iterdir() if p.is_file()] == ["functions.py"]


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_the_install_line_is_given(monkeypatch, capsys, missing):
    monkeypatch.delitem(sys.modules, "torchjac.cli.commands")
    monkeypatch.delitem(sys.modules, "torchjac.cli.tables")
    for name in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main() == 1
    assert capsys.readouterr().err == f"torchjac: the command line needs {missing}; pip install 'torchjac[cli]'\n"


def test_the_version():
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"torchjac {tj.__version__}\n")


# ---- as a process


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "torchjac", *arguments]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_control_c(code):
    marked = CODE.replace("time.sleep(60)", "open('ready', 'w').close(); time.sleep(60)")
    Path("functions.py").write_text(marked)
    process = start("inspect", "functions.py:slow", "-i", "float64[9]", "--save", "p.npz")
    end = time.monotonic() + 240
    while not Path("ready").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert Path("ready").exists()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == "torchjac: interrupted; no file was left half written\n"
    assert not Path("p.npz").exists()


def test_a_pipe_gets_text_without_colors_and_bars(code):
    process = start("inspect", "functions.py:stencil", "-i", "float64[9]")
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert "\x1b" not in stdout
    assert "\r" not in stdout


# ---- compare


@pytest.mark.parametrize("way", compare.WAYS)
def test_every_way_gives_the_same_jacobian(code, way):
    what = target(f"{code}:mixed", ["x:float64[4]", "y:float32[3]", "k:2"], "random")
    about, product = compare._timed(compare._WAYS[way], what, 1.0)
    x, y = what.args[0], what.args[1]
    flat = torch.cat([x, y.double()])
    J = torch.func.jacrev(lambda z: torch.cat([z[:4].sin(), z[:3] * z[4:] * 2]))(flat)
    v = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(torch.from_numpy(product), J @ v, atol=1e-6, rtol=1e-6)
    assert about["seconds"] > 0


def test_compare_times_ways_that_agree(code, monkeypatch):
    monkeypatch.setattr(compare, "WAYS", (compare.WAYS[0], compare.WAYS[2]))  # each takes seconds to start
    done = run("compare", f"{code}:stencil", "-i", "u:float64[60]", "--json", "--threads", "1", "--seconds", "60")
    assert done.exit_code == 0, done.output
    ways = json.loads(done.stdout)["ways"]
    assert [way["way"] for way in ways] == list(compare.WAYS)
    for way in ways:
        assert min(way["seconds"], way["first"]) > 0
        assert way["peak"] >= 0
    assert all(way["difference"] < 1e-12 for way in ways[1:])


def race(code: str, function: str, way: str, **changes: Any) -> dict[str, Any]:
    given = {"inputs": ["float64[9]"], "init": "ones", "device": "cpu", "wrt": None, "seconds": 60.0, "threads": 1}
    return compare.time_apart(compare.TimedWay(way, f"{code}:{function}", **{**given, "memory": 2 * 2**30, **changes}))


def test_a_way_that_takes_too_long_is_stopped(code):
    start = time.monotonic()
    assert race(code, "slow", compare.WAYS[3], seconds=0.5)["error"] == "more than 0.5 s"
    assert time.monotonic() - start < 45


def test_a_way_that_takes_too_much_is_stopped(code):
    assert race(code, "large", compare.WAYS[3])["error"] == "more than 2GiB"


def test_a_way_that_fails_says_why(code):
    assert race(code, "broken", compare.WAYS[1])["error"] == "fails: no luck"


def test_ways_that_differ_fail(code, monkeypatch):
    import numpy as np

    found = iter([1.0, 1.0, 1.5, 1.0])
    monkeypatch.setattr(
        compare, "time_apart", lambda job: {"way": job.way, "seconds": 1.0, "product": np.full(3, next(found))}
    )
    done = run("compare", f"{code}:stencil", "-i", "u:float64[60]")
    assert done.exit_code == 1
    assert "differs by 3e-01" in done.stdout
    monkeypatch.setattr(compare, "time_apart", lambda job: {"way": job.way, "error": "more than 1 s"})
    assert run("compare", f"{code}:stencil", "-i", "u:float64[60]").exit_code == 1
