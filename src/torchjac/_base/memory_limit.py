"""A gate before every large allocation: what does not fit is refused, before the machine stands still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from .errors import MemoryLimitError
from .memory import available, text_bytes

_SMALL = 2**26  # bytes that nobody needs to ask for: to see what is free takes longer than to write them
_limit: ContextVar[int | None] = ContextVar("_limit", default=None)


@contextmanager
def limited(size: int | None) -> Iterator[None]:
    """Inside, nothing that asks may take more than ``size`` bytes; None: than half of what is free."""
    token = _limit.set(size)
    try:
        yield
    finally:
        _limit.reset(token)


def require(size: int, what: str, *, instead: str, held: int = 0) -> None:
    """Raise MemoryLimitError where ``what`` takes ``size`` bytes and may not; ``held``: what the asker has already."""
    limit, allowed = _limit.get(), "as allowed"
    if limit is None:
        if size < _SMALL:
            return
        limit, held, allowed = available(torch.device("cpu")) // 2, 0, "half of what is free"
    if size + held > limit:
        raise MemoryLimitError(
            f"{what} would take {text_bytes(size + held)}",
            expected=f"at most {text_bytes(limit)}, {allowed}",
            why="it was refused before anything was allocated",
            instead=instead,
        )
