"""Matrices as images: entries aggregated to pixels, drawn by matplotlib or written as a PNG for a notebook.

Whoever calls knows what the numbers mean; here they are arrays. No image has more pixels than ``PIXELS`` squared.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .._base.errors import OptionError

PIXELS = 600
Image = npt.NDArray[np.float64]
Places = npt.NDArray[np.integer[Any]]


def image_size(shape: tuple[int, int], pixels: int = PIXELS) -> tuple[int, int]:
    """Height and width of the image of a matrix: a pixel an entry, as long as that is few."""
    return min(shape[0], pixels), min(shape[1], pixels)


def relative_density(shape: tuple[int, int], counts: npt.NDArray[np.integer[Any]]) -> Image:
    """The share of places in each block that are entries, 1 at the fullest; ``counts`` are entries a block."""
    (m, n), (height, width) = shape, counts.shape
    places = np.outer(_sizes(m, height), _sizes(n, width))
    share = counts / np.maximum(places, 1)
    full: Image = share / max(float(share.max(initial=0)), 1e-300)
    return full


def _sizes(count: int, blocks: int) -> npt.NDArray[np.int64]:
    return np.bincount(np.arange(count, dtype=np.int64) * blocks // max(count, 1), minlength=blocks)


def block_of(places: Places, count: int, blocks: int) -> npt.NDArray[np.int64]:
    """In which of ``blocks`` equal parts of 0 ... count - 1 each place is."""
    return places.astype(np.int64) * blocks // max(count, 1)


def colored_image(shape: tuple[int, int], rows: Places, columns: Places, colors: Places, count: int) -> Image:
    """RGBA: each pixel in the color of an entry in it, clear where there is none."""
    from matplotlib import colormaps

    height, width = image_size(shape)
    image = np.zeros((height, width, 4))
    place = block_of(rows, shape[0], height), block_of(columns, shape[1], width)
    image[place] = colormaps["turbo"]((colors + 0.5) / max(count, 1))
    return image


def axes(ax: Any, size: tuple[float, float] = (5.5, 5.5)) -> Any:
    """``ax``, or those of a new figure; OptionError says how to install matplotlib."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ModuleNotFoundError as error:
        raise no_matplotlib() from error
    return pyplot.subplots(figsize=size, layout="constrained")[1]


def no_matplotlib() -> OptionError:
    """What to raise where matplotlib is missing."""
    return OptionError(
        "a picture, and matplotlib is not installed",
        expected="the package matplotlib",
        why="pictures are an extra of torchjac",
        instead="pip install 'torchjac[plot]'",
    )


def spy(
    ax: Any, shape: tuple[int, int], image: Image, title: str, row_blocks: Sequence[int], column_blocks: Sequence[int]
) -> Any:
    """Draw an image of a matrix with its indices at the axes, and lines where blocks begin."""
    m, n = shape
    gray = image.ndim == 2
    if image.size:
        shown = np.where(image > 0, 0.25 + 0.75 * image**0.3, 0) if gray else image  # an entry is never lost
        ax.imshow(
            shown, extent=(0, n, m, 0), cmap="Blues" if gray else None, vmin=0, vmax=1, interpolation="nearest",
            aspect="equal" if 0.25 < m / n < 4 else "auto",
        )  # fmt: skip
    line = {"color": "0.45", "linewidth": 0.8}
    for start in row_blocks:
        ax.axhline(start, **line)
    for start in column_blocks:
        ax.axvline(start, **line)
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("input")
    ax.set_ylabel("output")
    ax.tick_params(labelsize=8)
    return ax


def bars(ax: Any, sizes: Sequence[int], title: str) -> Any:
    """Draw how many share each color, in that color."""
    from matplotlib import colormaps

    colors = colormaps["turbo"]((np.arange(len(sizes)) + 0.5) / max(len(sizes), 1))
    ax.bar(range(len(sizes)), sizes, color=colors)
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("color")
    ax.set_ylabel("members")
    return ax


def swatches(sizes: Sequence[int]) -> str:
    """The same for a notebook: a line of HTML."""
    style = "flex:{};background:hsl({},65%,55%)"
    parts = (
        f'<span style="{style.format(size, 300 * k // len(sizes))}" title="color {k}: {size:,}"></span>'
        for k, size in enumerate(sizes)
    )
    return f'<div style="display:flex;width:240px;height:14px">{"".join(parts)}</div>'


def png_uri(image: Image) -> str:
    """A gray image, 0 white and 1 dark blue, as a ``data:`` address."""
    level = np.where(image > 0, 0.25 + 0.75 * image**0.3, 0)[..., None]
    pixels = np.round(np.array([255, 255, 255]) + level * (np.array([8, 48, 107]) - 255)).astype(np.uint8)
    height, width = pixels.shape[:2]
    raw = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, 3 * width)], 1).tobytes()
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(raw, 9))]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in [*parts, (b"IEND", b"")])
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
