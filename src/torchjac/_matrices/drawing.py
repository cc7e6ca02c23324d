"""Pictures of sparse matrices: as text, as a plot of matplotlib, or as a PNG for a notebook.

Entries are aggregated to pixels. No image has more pixels than ``PIXELS`` squared.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from .._base.errors import OptionError
from .row_sets import IntArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PIXELS = 600
Image = npt.NDArray[np.float64]


class Countable(Protocol):
    """A matrix whose entries can be counted block by block."""

    @property
    def shape(self) -> tuple[int, int]: ...
    def counts(self, height: int, width: int) -> npt.NDArray[np.int64]: ...


def picture(matrix: Countable, height: int = 16, width: int = 48) -> list[str]:
    """The lines of a text view of a matrix, one character a block of entries: from ' ' (none) to '#' (most)."""
    m, n = matrix.shape
    if m == 0 or n == 0:
        return []
    height, width = min(m, height), min(n, width)
    counts = matrix.counts(height, width)
    per_cell = (m / height) * (n / width)
    shades = np.array(list(" ·:+#"))
    level = np.ceil(4 * np.sqrt(np.minimum(counts / per_cell, 1))).astype(int)
    return [
        "  ┌" + "─" * width + "┐",
        *("  │" + "".join(row) + "│" for row in shades[level]),
        "  └" + "─" * width + "┘",
    ]


def density_image(matrix: Countable, pixels: int = PIXELS) -> Image:
    """The image of a matrix: in each pixel the share of entries, 1 at the fullest."""
    return relative_density(matrix.shape, matrix.counts(*image_size(matrix.shape, pixels)))


def thumbnail(matrix: Countable) -> str:
    """A small image of a matrix as a line of HTML."""
    if 0 in matrix.shape:
        return ""
    style = "width:240px;height:240px;image-rendering:pixelated;border:1px solid #999"
    return f'<img alt="the pattern" style="{style}" src="{png_uri(density_image(matrix, 240))}">'


def image_size(shape: tuple[int, int], pixels: int = PIXELS) -> tuple[int, int]:
    """The height and width of the image of a matrix: one pixel for each entry, up to ``pixels``."""
    return min(shape[0], pixels), min(shape[1], pixels)


def relative_density(shape: tuple[int, int], counts: IntArray) -> Image:
    """The share of entries in each block, relative to the fullest block; ``counts`` are the entries of each."""
    (m, n), (height, width) = shape, counts.shape
    places = np.outer(_sizes(m, height), _sizes(n, width))
    share = counts / np.maximum(places, 1)
    full: Image = share / max(float(share.max(initial=0)), 1e-300)
    return full


def _sizes(count: int, blocks: int) -> npt.NDArray[np.int64]:
    return np.bincount(np.arange(count, dtype=np.int64) * blocks // max(count, 1), minlength=blocks)


def block_of(places: IntArray, count: int, blocks: int) -> npt.NDArray[np.int64]:
    """The number of the block that holds each place, when 0 ... count - 1 is cut into equal ``blocks``."""
    return places.astype(np.int64) * blocks // max(count, 1)


def colored_image(shape: tuple[int, int], rows: IntArray, columns: IntArray, colors: IntArray, count: int) -> Image:
    """An RGBA image: each pixel has the color of an entry in it, and is clear where there is none."""
    from matplotlib import colormaps

    height, width = image_size(shape)
    image = np.zeros((height, width, 4))
    place = block_of(rows, shape[0], height), block_of(columns, shape[1], width)
    image[place] = colormaps["turbo"]((colors + 0.5) / max(count, 1))
    return image


def axes(ax: Axes | None, size: tuple[float, float] = (5.5, 5.5)) -> Axes:
    """The given axes, or those of a new figure; OptionError says how to install matplotlib."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise no_matplotlib() from error
    return pyplot.figure(figsize=size, layout="constrained").add_subplot()


def no_matplotlib() -> OptionError:
    """The error to raise where matplotlib is not installed."""
    return OptionError(
        "a picture, and matplotlib is not installed",
        expected="the package matplotlib",
        why="pictures are an extra of torchjac",
        instead="pip install 'torchjac[plot]'",
    )


def spy(
    ax: Axes, shape: tuple[int, int], image: Image, title: str, row_blocks: Sequence[int], column_blocks: Sequence[int]
) -> Axes:
    """Draw an image of a matrix with its indices at the axes, and lines where blocks begin."""
    m, n = shape
    gray = image.ndim == 2
    if image.size:
        shown = np.where(image > 0, 0.25 + 0.75 * image**0.3, 0) if gray else image  # an entry is never lost
        ax.imshow(
            shown, extent=(0, n, m, 0), cmap="Blues" if gray else None, vmin=0, vmax=1, interpolation="nearest",
            aspect="equal" if 0.25 < m / n < 4 else "auto",
        )  # fmt: skip
    for start in row_blocks:
        ax.axhline(start, color="0.45", linewidth=0.8)
    for start in column_blocks:
        ax.axvline(start, color="0.45", linewidth=0.8)
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("input")
    ax.set_ylabel("output")
    ax.tick_params(labelsize=8)
    return ax


def bars(ax: Axes, sizes: Sequence[int], title: str) -> Axes:
    """Draw a bar for each color, as long as its number of members."""
    from matplotlib import colormaps

    colors = colormaps["turbo"]((np.arange(len(sizes)) + 0.5) / max(len(sizes), 1))
    ax.bar(range(len(sizes)), sizes, color=colors)
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("color")
    ax.set_ylabel("members")
    return ax


def swatches(sizes: Sequence[int]) -> str:
    """A line of HTML for a notebook, with a colored piece for each color, as long as its number of members."""
    style = "flex:{};background:hsl({},65%,55%)"
    parts = (
        f'<span style="{style.format(size, 300 * k // len(sizes))}" title="color {k}: {size:,}"></span>'
        for k, size in enumerate(sizes)
    )
    return f'<div style="display:flex;width:240px;height:14px">{"".join(parts)}</div>'


def png_uri(image: Image) -> str:
    """The ``data:`` address of a PNG of an image, from 0 (white) to 1 (dark blue)."""
    level = np.where(image > 0, 0.25 + 0.75 * image**0.3, 0)[..., None]
    pixels = np.round(np.array([255, 255, 255]) + level * (np.array([8, 48, 107]) - 255)).astype(np.uint8)
    height, width = pixels.shape[:2]
    raw = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, 3 * width)], 1).tobytes()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw, 9))]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in [*parts, (b"IEND", b"")])
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
