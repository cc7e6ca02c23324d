"""Progress of long computations: one line on a terminal or in a notebook, shown after the first second."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

_PATIENCE, _TICK, _WIDTH = 1.0, 0.1, 24
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class Bar:
    """One line of progress, drawn by a thread of its own, because a long computation cannot draw it meanwhile."""

    def __init__(self, name: str, stream: TextIO, counted: bool) -> None:
        self._name, self._stream, self._counted = name, stream, counted
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._done, self._count = 0, 0
        self._length, self._turn = 0, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._draw_until_over, daemon=True)
        self._thread.start()

    def at(self, done: int, count: int) -> None:
        """Set the number of finished products to ``done`` of ``count``."""
        if self._counted:
            self._first = self._first or (time.monotonic(), done)
            self._done, self._count = done, count

    def end(self) -> None:
        """Stop drawing, and clear the line."""
        self._over.set()
        self._thread.join()
        if self._length:
            self._write("\r" + " " * self._length + "\r")

    def text(self) -> str:
        """The text of the line at this moment."""
        if self._first is None or not self._count:
            self._turn += 1
            return f"{_SPINNER[self._turn % len(_SPINNER)]} {self._name}, {time.monotonic() - self._start:.0f} s"
        (since, first), share = self._first, self._done / self._count
        filled = round(_WIDTH * share)
        line = f"{self._name} {'━' * filled}{'─' * (_WIDTH - filled)} {100 * share:3.0f}% of {self._count:,} products"
        if self._done == first:
            return line
        left = round((time.monotonic() - since) * (self._count - self._done) / (self._done - first))
        return f"{line}, {left // 60}:{left % 60:02} left"

    def _draw_until_over(self) -> None:
        wait = _PATIENCE
        while not self._over.wait(wait):
            text, wait = self.text(), _TICK
            self._write("\r" + text.ljust(self._length))
            self._length = max(self._length, len(text))

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


_current: ContextVar[Bar | None] = ContextVar("torchjac_progress", default=None)


@contextmanager
def progress(name: str, wanted: bool, counted: bool = False) -> Iterator[None]:
    """Show ``name`` while the block runs, if it is ``wanted`` and a person is watching; a block inside shows nothing.

    ``counted``: the block calls ``advance``, so that a bar can be drawn.
    """
    stream = sys.stderr
    if not wanted or _current.get() is not None or not is_watched(stream):
        yield
        return
    bar = Bar(name, stream, counted)
    token = _current.set(bar)
    try:
        yield
    finally:
        _current.reset(token)
        bar.end()


def advance(done: int, count: int) -> None:
    """Tell the progress bar, if one is shown, that ``done`` of ``count`` products are done."""
    bar = _current.get()
    if bar is not None:
        bar.at(done, count)


def is_watched(stream: TextIO) -> bool:
    """Whether a person sees what is written: a terminal, or the output of a notebook's cell."""
    return stream.isatty() or type(stream).__module__.startswith("ipykernel.")
