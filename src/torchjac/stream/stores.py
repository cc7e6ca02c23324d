"""Stores: a large matrix on the disk, as a file of NumPy or a folder of Zarr, written and read line by line."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from .._base.errors import FileError, OptionError

Array = npt.NDArray[np.floating]
Dtype = np.dtype[np.floating]


class Store(Protocol):
    """An (m, n) matrix on the disk, written as *lines*: rows, or columns where these are contiguous."""

    def create(self, length: int) -> None:
        """Make the matrix anew, full of zeros; about ``length`` lines will be written at once."""

    def damaged(self) -> bool:
        """Tell whether the matrix is not what ``create`` made."""

    def write(self, start: int, lines: Array) -> None:
        """Write lines from ``start`` on, and wait until they are on the disk."""

    def read(self, start: int, stop: int) -> Array:
        """Return the lines from ``start`` up to ``stop``."""

    def remove(self) -> None:
        """Delete the matrix, if it is there."""


class NpyFile:
    """A file in NumPy's format; a matrix written by columns is in Fortran order, so that each of them is contiguous."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: Dtype, by_columns: bool) -> None:
        self._path, self._shape, self._dtype, self._by_columns = path, shape, dtype, by_columns
        self._width = shape[0] if by_columns else shape[1]

    def create(self, length: int) -> None:
        """Make the matrix anew, full of zeros."""
        with self._path.open("wb") as file:
            self._header(file)
            file.truncate(file.tell() + self._size)
            os.fsync(file.fileno())

    def _header(self, file: BinaryIO) -> None:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": descr, "fortran_order": self._by_columns, "shape": self._shape}
        np.lib.format.write_array_header_1_0(file, header)

    @property
    def _size(self) -> int:
        return self._shape[0] * self._shape[1] * self._dtype.itemsize

    def damaged(self) -> bool:
        """Tell whether the file is missing, or of another shape, dtype or size."""
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

    def _seek(self, file: BinaryIO, line: int) -> None:
        file.seek(self._path.stat().st_size - self._size + line * self._width * self._dtype.itemsize)

    def write(self, start: int, lines: Array) -> None:
        """Write lines, (k, width), and wait until they are on the disk."""
        with self._path.open("r+b") as file:
            self._seek(file, start)
            file.write(np.ascontiguousarray(lines).data)
            file.flush()
            os.fsync(file.fileno())

    def read(self, start: int, stop: int) -> Array:
        """Return the lines from ``start`` up to ``stop``: (stop - start, width)."""
        with self._path.open("rb") as file:
            self._seek(file, start)
            flat = np.fromfile(file, self._dtype, (stop - start) * self._width)
        return flat.reshape(stop - start, self._width)

    def remove(self) -> None:
        """Delete the matrix, if it is there."""
        self._path.unlink(missing_ok=True)


class ZarrFolder:
    """A folder of Zarr: compressed chunks, one a block."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: Dtype, by_columns: bool) -> None:
        self._zarr = _import_zarr()
        self._path, self._shape, self._dtype, self._by_columns = path, shape, dtype, by_columns

    def create(self, length: int) -> None:
        """Make the matrix anew, in chunks of ``length`` lines."""
        self.remove()
        m, n = self._shape
        chunks = (max(m, 1), length) if self._by_columns else (length, max(n, 1))
        self._zarr.open_array(str(self._path), mode="w", shape=self._shape, chunks=chunks, dtype=self._dtype)

    def _array(self) -> Any:
        return self._zarr.open_array(str(self._path), mode="r+")

    def damaged(self) -> bool:
        """Tell whether the folder is missing, or of another shape or dtype."""
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
        """Return the lines from ``start`` up to ``stop``: (stop - start, width)."""
        array = self._array()
        return np.asarray(array[:, start:stop].T if self._by_columns else array[start:stop])

    def remove(self) -> None:
        """Delete the matrix, if it is there."""
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


_STORES: dict[str, type[NpyFile] | type[ZarrFolder]] = {".npy": NpyFile, ".zarr": ZarrFolder}


def store_of(path: Path, suffix: str, shape: tuple[int, int], dtype: Dtype, by_columns: bool) -> Store:
    """Return the store that ``suffix`` names, at ``path``."""
    return _STORES[suffix](path, shape, dtype, by_columns)


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
