"""Find the line of the user's code that is running."""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable
from traceback import walk_tb
from types import FrameType
from typing import TypeVar

from .._base.user_frame import callers, is_users

T = TypeVar("T")


def entered(run: Callable[[], T]) -> T:
    """Return what ``run()`` returns; frames inside of this one belong to the traced function."""
    return run()


def user_line() -> str:
    """Return the line of the traced function that runs, as ``model.py:12: y = x[i] * w``; empty if there is none."""
    for frame in callers():
        if _is_entry(frame):
            return ""
        if is_users(frame):
            return _describe(frame, frame.f_lineno)
    return ""


def raising_line(error: BaseException) -> str:
    """Return the innermost line of the traced function that led to ``error``; empty if it was raised elsewhere."""
    line, inside = "", False
    for frame, number in walk_tb(error.__traceback__):
        inside = inside or _is_entry(frame)
        if inside and is_users(frame):
            line = _describe(frame, number)
    return line


def _is_entry(frame: FrameType) -> bool:
    return frame.f_code is entered.__code__


def _describe(frame: FrameType, number: int) -> str:
    file = frame.f_code.co_filename
    source = linecache.getline(file, number).strip()
    return f"{os.path.basename(file)}:{number}" + (f": {source}" if source else "")
