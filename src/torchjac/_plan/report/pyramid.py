"""A pattern for a page that zooms: densities at several resolutions, and the entries themselves where they are few.

Arrays are compressed (zlib) and written in base64; every browser can read them back.
"""

from __future__ import annotations

import base64
import zlib
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from ..._coloring.colors import Coloring, ColumnColors, RowColors
from ..._matrices.pattern import SparsityPattern

_FINEST, _COARSEST = 1024, 128
_MOST_ENTRIES, _MOST_BYTES = 8_000_000, 6 * 2**20  # so many entries are embedded at most, in so many compressed bytes


class Level(TypedDict):
    """The densities of a pattern at one resolution."""

    height: int
    width: int
    data: str


class PageColors(TypedDict):
    """The color of each column, row or entry, one of the three, and the number of colors."""

    columns: str | None
    rows: str | None
    entries: str | None
    count: int


def pyramid(pattern: SparsityPattern) -> list[Level]:
    """Return the densities of blocks, finest first: 0 for a block without entries, 1 ... 255 for few to all."""
    sides = [_FINEST >> k for k in range((_FINEST // _COARSEST).bit_length())]
    sizes = [tuple(min(size, side) for size in pattern.shape) for side in sides]
    return [
        {"height": height, "width": width, "data": encode(_shades(pattern, height, width))}
        for height, width in dict.fromkeys(sizes)  # small patterns are the same at several sides
    ]


def _shades(pattern: SparsityPattern, height: int, width: int) -> npt.NDArray[np.uint8]:
    if not height * width:
        return np.zeros(0, np.uint8)
    m, n = pattern.shape
    share = pattern.counts(height, width) / np.maximum((m / height) * (n / width), 1)
    shades: npt.NDArray[np.uint8] = np.ceil(255 * np.minimum(share, 1) ** 0.3).astype(np.uint8)
    return shades


def entries(pattern: SparsityPattern) -> dict[str, str] | None:
    """Return the entries of each row, and each column as a step from the last one; None if too large for a page."""
    if pattern.nnz > _MOST_ENTRIES:
        return None
    steps = np.diff(pattern.indices, prepend=0).astype(np.int32)
    starts = pattern.indptr[:-1][np.diff(pattern.indptr) > 0]
    first = pattern.indices[starts]
    steps[starts] = np.diff(first, prepend=0)  # a row begins relative to the row before: repeated, and small
    data = encode(steps)
    if len(data) > _MOST_BYTES:
        return None
    return {"counts": encode(np.diff(pattern.indptr).astype(np.int32)), "steps": data}


def colors(coloring: Coloring | None, pattern: SparsityPattern) -> PageColors | None:
    """Return the color of each column, of each row, or of each entry where columns and rows have colors."""
    if coloring is None:
        return None
    sides: PageColors = {"columns": None, "rows": None, "entries": None, "count": coloring.num_colors}
    match coloring:
        case ColumnColors():
            sides["columns"] = encode(coloring.colors)
        case RowColors():
            sides["rows"] = encode(coloring.colors)
        case _ if pattern.nnz <= _MOST_ENTRIES:
            sides["entries"] = encode(coloring.of_entries(pattern))
        case _:
            return None
    return sides


def encode(array: npt.NDArray[np.generic]) -> str:
    """Return the array as little-endian bytes, compressed, in base64."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(zlib.compress(np.ascontiguousarray(little).tobytes(), 6)).decode()
