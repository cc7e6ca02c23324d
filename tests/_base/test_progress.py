"""Bars: after a second, where somebody looks, and gone when it is over."""

from __future__ import annotations

import io
import re
import time

import pytest
import torch

import torchjac as tj
from torchjac._base import progress as progress_module
from torchjac._base.progress import advance, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "_PATIENCE", 0.01)
    monkeypatch.setattr(progress_module, "_TICK", 0.01)


def until(stream: io.StringIO, words: str) -> str:
    end = time.monotonic() + 20
    while not re.search(words, stream.getvalue()) and time.monotonic() < end:
        time.sleep(0.01)
    return stream.getvalue()


def test_what_is_not_counted_shows_that_it_goes_on(impatient, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    with progress("detection", True):
        advance(1, 2)  # of something within
        assert re.search(r"\r\S detection, 0 s", until(stream, "detection"))
    assert re.search(r"\r +\r$", stream.getvalue())


def test_what_is_counted_shows_a_share_and_what_is_left(impatient, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    with progress("evaluation", True, counted=True):
        advance(10, 4000)
        with progress("something within", True):
            time.sleep(0.05)
            advance(1000, 4000)
            text = until(stream, "left")
    assert re.search(r"evaluation ━{6}─{18}  25% of 4,000 products, \d+:\d\d left", text)
    assert "within" not in text


@pytest.mark.parametrize(("wanted", "stream"), [(False, Terminal()), (True, io.StringIO())])
def test_silent_where_not_wanted_and_in_a_pipe(impatient, monkeypatch, wanted, stream):
    monkeypatch.setattr("sys.stderr", stream)
    with progress("detection", wanted):
        time.sleep(0.05)
    assert stream.getvalue() == ""


def test_short_work_shows_nothing(monkeypatch):
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    monkeypatch.setattr(progress_module, "_PATIENCE", 60.0)  # however slow this machine is
    monkeypatch.setattr(progress_module, "_TICK", 0.01)
    with progress("detection", True):
        time.sleep(0.05)
    assert stream.getvalue() == ""


def test_notebooks_are_watched():
    kernel = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    assert progress_module.is_watched(kernel())
    assert not progress_module.is_watched(io.StringIO())


def interrupted(stream: io.StringIO) -> None:
    with progress("detection", True):
        until(stream, "detection")
        raise KeyboardInterrupt


def test_a_line_that_fails_is_cleared(impatient, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    with pytest.raises(KeyboardInterrupt):
        interrupted(stream)
    assert stream.getvalue().endswith("\r")


def test_plans_show_each_stage(impatient, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream := Terminal())
    stage = "detection"

    def f(x):
        until(stream, stage)
        return x * x.sum()

    plan = tj.plan_jacobian(f, x := torch.rand(40), progress=True)
    assert "detection" in stream.getvalue()
    stage = "evaluation"
    monkeypatch.setattr(plan.prepared.strategy.sides[0].products, "chunk", 1)
    plan(x)
    assert "evaluation" in stream.getvalue()


def test_plans_show_nothing_unless_asked(impatient, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream := Terminal())

    def slow(x):
        time.sleep(0.05)
        return x * x.sum()

    x = torch.rand(40)
    tj.plan_jacobian(slow, x)(x)
    assert stream.getvalue() == ""
