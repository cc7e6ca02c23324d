"""A large matrix that is written in pieces and looks complete only when it is.

The numbers go to ``path.part``; ``path.part.journal`` says what they are of, in its first line, and how far they are
right, in one line a piece. A piece is on the disk before its line is, and a line that was cut short does not count, so
that whatever ends a process, the next one knows where to go on. At the end the part gets its name in one step.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from .._base.errors import FileError, OptionError

Array = npt.NDArray[Any]


class Store(Protocol):
    """An (m, n) matrix on the disk, written as *lines*: rows, or columns where these are contiguous."""

    def create(self, length: int) -> None:
        """Make it anew, full of zeros; about ``length`` lines will be written at once."""

    def damaged(self) -> bool:
        """Whether it is not what ``create`` made."""

    def write(self, start: int, lines: Array) -> None:
        """Write lines from ``start`` on, and wait until they are on the disk."""

    def read(self, start: int, stop: int) -> Array:
        """The lines from ``start`` up to ``stop``."""

    def remove(self) -> None:
        """Delete it, if it is there."""


class NpyFile:
    """NumPy's format; a matrix written by columns is in Fortran order, so that each of them is contiguous."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype[Any], by_columns: bool) -> None:
        self._path, self._shape, self._dtype, self._by_columns = path, shape, dtype, by_columns
        self._width = shape[0] if by_columns else shape[1]

    def create(self, length: int) -> None:
        """Make it anew, full of zeros."""
        with self._path.open("wb") as file:
            self._header(file)
            file.truncate(file.tell() + self._size)
            os.fsync(file.fileno())

    def _header(self, file: Any) -> None:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": descr, "fortran_order": self._by_columns, "shape": self._shape}
        np.lib.format.write_array_header_1_0(file, header)

    @property
    def _size(self) -> int:
        return self._shape[0] * self._shape[1] * self._dtype.itemsize

    def damaged(self) -> bool:
        """Whether it is not of this shape and dtype, or not of this size."""
        if not self._path.is_file():
            return True
        with self._path.open("rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                found = np.lib.format.read_array_header_1_0(file) if version == (1, 0) else None
            except ValueError:
                return True
            expected = (self._shape, self._by_columns, self._dtype)
            return found != expected or self._path.stat().st_size != file.tell() + self._size

    def _seek(self, file: Any, line: int) -> None:
        file.seek(self._path.stat().st_size - self._size + line * self._width * self._dtype.itemsize)

    def write(self, start: int, lines: Array) -> None:
        """Write lines, (k, width), and wait until they are on the disk."""
        with self._path.open("r+b") as file:
            self._seek(file, start)
            file.write(np.ascontiguousarray(lines).data)
            file.flush()
            os.fsync(file.fileno())

    def read(self, start: int, stop: int) -> Array:
        """(stop - start, width)."""
        with self._path.open("rb") as file:
            self._seek(file, start)
            flat = np.fromfile(file, self._dtype, (stop - start) * self._width)
        return flat.reshape(stop - start, self._width)

    def remove(self) -> None:
        """Delete it, if it is there."""
        self._path.unlink(missing_ok=True)


class ZarrFolder:
    """Zarr: compressed chunks in a folder, one a block."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype[Any], by_columns: bool) -> None:
        self._zarr = _import_zarr()
        self._path, self._shape, self._dtype, self._by_columns = path, shape, dtype, by_columns

    def create(self, length: int) -> None:
        """Make it anew, in chunks of ``length`` lines."""
        self.remove()
        m, n = self._shape
        chunks = (max(m, 1), length) if self._by_columns else (length, max(n, 1))
        self._zarr.open_array(str(self._path), mode="w", shape=self._shape, chunks=chunks, dtype=self._dtype)

    def _array(self) -> Any:
        return self._zarr.open_array(str(self._path), mode="r+")

    def damaged(self) -> bool:
        """Whether it is not there, or not of this shape and dtype."""
        if not self._path.is_dir():
            return True
        array = self._array()
        return (tuple(array.shape), array.dtype) != (self._shape, self._dtype)

    def write(self, start: int, lines: Array) -> None:
        """Write lines, (k, width), and wait until they are on the disk."""
        stop = start + lines.shape[0]
        if self._by_columns:
            self._array()[:, start:stop] = lines.T
        else:
            self._array()[start:stop] = lines
        os.sync()  # a block may be several files, which only Zarr knows

    def read(self, start: int, stop: int) -> Array:
        """(stop - start, width)."""
        array = self._array()
        return np.asarray(array[:, start:stop].T if self._by_columns else array[start:stop])

    def remove(self) -> None:
        """Delete it, if it is there."""
        if self._path.exists():
            shutil.rmtree(self._path)


def _import_zarr() -> Any:
    try:
        import zarr  # type: ignore[import-not-found,unused-ignore]  # an extra
    except ModuleNotFoundError as error:
        raise OptionError(
            "path ends with .zarr, and zarr is not installed",
            expected="the package zarr",
            why="Zarr is an extra of torchjac",
            instead="pip install 'torchjac[zarr]', or a path that ends with .npy",
        ) from error
    return zarr


_STORES: dict[str, Any] = {".npy": NpyFile, ".zarr": ZarrFolder}


def check_path(path: Path) -> None:
    """Raise unless a matrix can be written to ``path``."""
    if path.suffix not in _STORES:
        raise OptionError(
            f"path={os.fspath(path)!r}",
            expected="a path that ends with .npy or .zarr",
            instead=f"path='{path.stem}.npy'",
        )
    if path.suffix == ".zarr":
        _import_zarr()
    if path.is_dir():
        raise FileError(
            f"{path} exists and is a folder",
            expected="a path where nothing is, or a file, which is replaced at the end",
            why="a folder, which may hold more than an old result, is never deleted",
            instead="another path, or remove it first",
        )


class Partial:
    """The matrix while it is written, by one process at a time; ``done`` lines of it are right."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype[Any], by_columns: bool) -> None:
        self._target, self._part = path, path.with_name(path.name + ".part")
        self._journal = path.with_name(path.name + ".part.journal")
        self.store: Store = _STORES[path.suffix](self._part, shape, dtype, by_columns)
        self.done, self._finished = 0, False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the journal, so that no other process writes the same matrix; FileError if one does."""
        with self._journal.open("a+b") as self._file:
            _lock(self._file, self._target)
            yield
        if self._finished:
            self._journal.unlink(missing_ok=True)

    def resume(self) -> dict[str, Any] | None:
        """Go on where an unfinished matrix ends: the header it was begun with, None if there is none."""
        self._file.seek(0)
        *lines, torn = self._file.read().split(b"\n")
        if not lines or not self._part.exists():
            return None
        self._file.truncate(self._file.tell() - len(torn))
        try:
            header: dict[str, Any] = json.loads(lines[0])
            self.done = int(lines[-1]) if len(lines) > 1 else 0
        except ValueError as error:
            raise FileError(
                f"{self._journal} is damaged ({error})",
                expected="the journal of an unfinished write_jacobian",
                instead="resume=False, to start anew",
            ) from error
        return header

    def begin(self, header: dict[str, Any], length: int) -> None:
        """Start anew."""
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
    """Until the file is closed, or the process ends in whatever way."""
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
