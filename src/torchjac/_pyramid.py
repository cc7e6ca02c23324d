"""A pattern for a page that zooms: densities at several resolutions, and the entries themselves where they are few.

Arrays are compressed (zlib) and written in base64; the page reads them back with what a browser has.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ._colors import BidirectionalColors, Coloring, ColumnColors, RowColors, SymmetricColors
from ._pattern import SparsityPattern

_FINEST, _COARSEST = 1024, 128
_MOST_ENTRIES, _MOST_BYTES = 8_000_000, 6 * 2**20  # entries are embedded up to so many, compressed to so much


def pyramid(pattern: SparsityPattern) -> list[dict[str, Any]]:
    """Densities, finest first: of blocks, 0 where there is no entry and 1 ... 255 for up to all."""
    levels, side = [], _FINEST
    while side >= _COARSEST:
        height, width = (min(size, side) for size in pattern.shape)
        levels.append({"height": height, "width": width, "data": encode(_shades(pattern, height, width))})
        if max(height, width) <= side // 2:
            levels.pop()  # the next one is the same
        side //= 2
    return levels


def _shades(pattern: SparsityPattern, height: int, width: int) -> npt.NDArray[np.uint8]:
    if not height * width:
        return np.zeros(0, np.uint8)
    m, n = pattern.shape
    share = pattern.counts(height, width) / np.maximum((m / height) * (n / width), 1)
    shades: npt.NDArray[np.uint8] = np.ceil(255 * np.minimum(share, 1) ** 0.3).astype(np.uint8)
    return shades


def entries(pattern: SparsityPattern) -> dict[str, str] | None:
    """Entries a row, and each column as a step from the one before; None where that is too much for a page."""
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


def colors(coloring: Coloring | None) -> dict[str, Any] | None:
    """The colors of columns and rows: an entry has its column's, or ``offset`` and its row's where that is -1."""
    match coloring:
        case ColumnColors():
            return _colors(coloring, coloring.colors, None, 0)
        case RowColors():
            return _colors(coloring, None, coloring.colors, 0)
        case BidirectionalColors():
            return _colors(coloring, coloring.column_colors, coloring.row_colors, coloring.num_forward)
        case SymmetricColors():
            return _colors(coloring, coloring.colors, coloring.colors, 0)
    return None


def _colors(coloring: Coloring, columns: Any, rows: Any, offset: int) -> dict[str, Any]:
    sides = {"columns": columns, "rows": rows}
    encoded = {side: None if c is None else encode(c.astype(np.int32)) for side, c in sides.items()}
    return {**encoded, "offset": offset, "count": coloring.num_colors}


def encode(array: npt.NDArray[Any]) -> str:
    """Little-endian bytes, compressed, in base64."""
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(zlib.compress(np.ascontiguousarray(little).tobytes(), 6)).decode()
