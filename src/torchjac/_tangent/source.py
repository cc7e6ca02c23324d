"""Which line of the user's code is running."""

from __future__ import annotations

import linecache
import os
import sys
from types import FrameType

import torch

_TORCH = os.path.dirname(torch.__file__) + os.sep
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_ENTRY = os.path.join(_PACKAGE, "_detection", "follow.py")
_PROBLEMS = os.path.join(_PACKAGE, "_demo") + os.sep  # functions that stand for a user's
_GENERATED = ("<frozen", "<string>", "<eval")


def user_line() -> str:
    """``model.py:12: y = x[i] * w`` for the innermost frame of the traced function; empty if none of it is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file == _ENTRY:
            return ""
        if _is_users(file):
            return _describe(file, frame.f_lineno)
        frame = frame.f_back
    return ""


def raising_line(error: BaseException) -> str:
    """The innermost line of the traced function that led to ``error``; empty if it was not raised in there."""
    line, inside, step = "", False, error.__traceback__
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        inside = inside or file == _ENTRY
        if inside and _is_users(file):
            line = _describe(file, step.tb_lineno)
        step = step.tb_next
    return line


def _is_users(file: str) -> bool:
    ours = file.startswith(_PACKAGE) and not file.startswith(_PROBLEMS)
    return not ours and not file.startswith((_TORCH, *_GENERATED))


def _describe(file: str, number: int) -> str:
    source = linecache.getline(file, number).strip()
    return f"{os.path.basename(file)}:{number}" + (f": {source}" if source else "")
