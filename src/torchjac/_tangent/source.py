"""Which line of the user's code is running."""

from __future__ import annotations

import linecache
import os
import sys

import torch

_LIBRARIES = (os.path.dirname(torch.__file__) + os.sep, os.path.dirname(os.path.dirname(__file__)) + os.sep)
_GENERATED = ("<frozen", "<string>", "<eval")


def user_line() -> str:
    """``model.py:12: y = x[i] * w`` for the innermost frame outside PyTorch and this package; empty if none."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_LIBRARIES) and not file.startswith(_GENERATED):
            source = linecache.getline(file, frame.f_lineno, frame.f_globals).strip()
            return f"{os.path.basename(file)}:{frame.f_lineno}" + (f": {source}" if source else "")
        frame = frame.f_back  # type: ignore[assignment]  # the outermost frame's f_back is None, which ends the loop
    return ""
