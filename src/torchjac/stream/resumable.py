"""The part file: a large matrix that is written in pieces and looks complete only when it is.

The numbers go to ``path.part``; ``path.part.journal`` says what they are of, in its first line, and how far they are
right, in one line a piece. A piece is on the disk before its line is, and a line that was cut short does not count, so
that whatever ends a process, the next one knows where to go on. At the end the part gets its name in one step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .._base.errors import FileError
from .stores import Array, Dtype, Store, store_of

Header = dict[str, Any]
"""What the first line of a journal says, as JSON."""


class PartFile:
    """The matrix while one process at a time writes it; ``done`` lines of it are right."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: Dtype, by_columns: bool) -> None:
        self._target, self._part = path, path.with_name(path.name + ".part")
        self._journal = path.with_name(path.name + ".part.journal")
        self.store: Store = store_of(self._part, path.suffix, shape, dtype, by_columns)
        self.done, self._finished = 0, False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the journal, so that no other process writes the same matrix; FileError if one does."""
        with self._journal.open("a+b") as self._file:
            _lock(self._file, self._target)
            yield
        if self._finished:
            self._journal.unlink(missing_ok=True)

    def resume(self) -> Header | None:
        """Go on where an unfinished matrix ends, and return the header it was begun with; None if there is none."""
        self._file.seek(0)
        *lines, torn = self._file.read().split(b"\n")
        if not lines or not self._part.exists():
            return None
        self._file.truncate(self._file.tell() - len(torn))
        try:
            header: Header = json.loads(lines[0])
            self.done = int(lines[-1]) if len(lines) > 1 else 0
        except ValueError as error:
            raise FileError(
                f"{self._journal} is damaged ({error})",
                expected="the journal of an unfinished write_jacobian",
                instead="resume=False, to start anew",
            ) from error
        return header

    def begin(self, header: Header, length: int) -> None:
        """Start the matrix and the journal anew."""
        self._file.truncate(0)
        os.fsync(self._file.fileno())  # the old journal must not speak for the new matrix
        self.store.create(length)
        self.done = 0
        self._note(json.dumps(header))
        _sync_folder(self._target.parent)

    def append(self, lines: Array) -> None:
        """Write the next lines, first to the matrix and then to the journal."""
        self.store.write(self.done, lines)
        self.advance(self.done + lines.shape[0])

    def advance(self, done: int) -> None:
        """Note that all lines up to ``done`` are on the disk."""
        self.done = done
        self._note(str(done))

    def _note(self, line: str) -> None:
        self._file.write(line.encode() + b"\n")  # at the end, wherever the file was read
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Give the matrix its name."""
        self._part.replace(self._target)
        self._finished = True
        _sync_folder(self._target.parent)


def _lock(journal: BinaryIO, target: Path) -> None:
    """Lock the journal until it is closed, or the process ends in whatever way."""
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileError(
            f"another write_jacobian to {target} is running",
            expected="one at a time",
            why="their blocks would be mixed",
            instead="another path, or wait until that one is finished",
        ) from error
    if os.fstat(journal.fileno()).st_nlink == 0:  # it was finished between opening and locking
        raise FileError(f"another write_jacobian to {target} has just finished", expected="one at a time")


def _sync_folder(folder: Path) -> None:
    """Wait until names that changed are on the disk, where folders can be opened (not on Windows)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
