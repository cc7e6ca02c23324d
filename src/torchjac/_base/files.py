"""Atomic writing: a file exists as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to, which replaces ``path`` when the block ends, and is deleted if the block raises.

    >>> from torchjac._base.files import replacing
    >>> with replacing("numbers.txt") as part:
    ...     _ = part.write_text("1 2 3")
    >>> open("numbers.txt").read()
    '1 2 3'
    """
    target = Path(path)
    part = target.with_name(f"{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
