"""Where a line of a test stands, in the words of messages."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any


def line_of(f: Callable[..., Any], offset: int = 0) -> str:
    """``test_x.py:12: y = x * x`` for the line of ``f`` that is ``offset`` below its first."""
    file, number = f.__code__.co_filename, f.__code__.co_firstlineno + offset
    return f"{Path(file).name}:{number}: {linecache.getline(file, number).strip()}"
