"""Frames of a user's code, and warnings that name the user's line that called.

torchjac's demo problems stand for a user's. A frame is told by its module's name, so that files may move.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from types import FrameType

from .errors import TorchjacWarning

_PACKAGE = __name__.partition(".")[0]
_BETWEEN = frozenset({_PACKAGE, "torch", "scipy", "functools", "contextlib", "copy"})  # they call what they are given
_PROBLEMS = "demo"
_GENERATED = ("<frozen", "<string>", "<eval")


def callers() -> Iterator[FrameType]:
    """The frames that led to the call of this function, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def is_users(frame: FrameType) -> bool:
    """Whether the frame runs a user's code that has a source file."""
    return _is_outside(frame) and not frame.f_code.co_filename.startswith(_GENERATED)


def warn(text: str) -> None:
    """Raise a TorchjacWarning that names the user's line that called, as often as the warning filters allow."""
    frame = _calling_frame()
    if frame is None:  # a thread of PyTorch's own
        warnings.warn_explicit(text, TorchjacWarning, "sys", 1)
        return
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    module = frame.f_globals.get("__name__", "<string>")
    warnings.warn_explicit(text, TorchjacWarning, frame.f_code.co_filename, frame.f_lineno, module, registry)


def _calling_frame() -> FrameType | None:
    """The innermost frame of a user; one without a source file, as of ``python -c``, only if there is no other."""
    outside = [frame for frame in callers() if _is_outside(frame)]
    return next(filter(is_users, outside), outside[0] if outside else None)


def _is_outside(frame: FrameType) -> bool:
    package, *rest = str(frame.f_globals.get("__name__", "")).split(".")
    return package not in _BETWEEN or (package == _PACKAGE and _PROBLEMS in rest)
