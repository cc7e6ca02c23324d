"""A picture of sparsity patterns: each as a whole, by density, and its first rows with a color for each product."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..._coloring.colors import Coloring
from ..._matrices.drawing import image_size, relative_density
from ..._matrices.pattern import SparsityPattern

_PIXELS = 400  # of the larger side; an entry is never lost, however many share a pixel
_ROWS = 24  # of the close view


def save_picture(path: Path, patterns: dict[str, tuple[SparsityPattern, Coloring | None]]) -> None:
    """Save a picture with one line of two panels a pattern. Time and memory grow with the number of entries.

    Raises
    ------
    ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2 * len(patterns)), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(patterns), 2, squeeze=False)
    for (whole, close), (name, (pattern, coloring)) in zip(panels, patterns.items(), strict=True):
        m, n = pattern.shape
        whole.imshow(
            density(pattern) ** 0.3, extent=(0, n, m, 0), aspect="auto", cmap="Blues", vmin=0, interpolation="nearest"
        )
        whole.set_title(f"{name}\n{m:,} x {n:,}, {pattern.nnz:,} entries", fontsize=9)
        close.imshow(close_view(pattern, coloring), aspect="auto", interpolation="nearest")
        products = f"a color for each of {coloring.num_colors} products" if coloring is not None else "dense"
        close.set_title(f"its first {min(_ROWS, m)} rows, only the columns they read\n{products}", fontsize=9)
        close.set_xticks([])
        for panel in (whole, close):
            panel.tick_params(labelsize=7)
    figure.savefig(path, format="png")


def density(pattern: SparsityPattern) -> npt.NDArray[np.float64]:
    """Return the share of places that are entries, block by block: at most 400 x 400, 1 at the fullest block."""
    return relative_density(pattern.shape, pattern.counts(*image_size(pattern.shape, _PIXELS)))


def close_view(pattern: SparsityPattern, coloring: Coloring | None) -> npt.NDArray[np.float64]:
    """Return an image (RGB) of the first rows and the columns that they have entries in: white where there is none."""
    from matplotlib import colormaps

    last = int(pattern.indptr[min(_ROWS, pattern.shape[0])])
    rows, columns = pattern.rows[:last], pattern.indices[:last]
    used, place = np.unique(columns, return_inverse=True)
    image = np.ones((min(_ROWS, pattern.shape[0]), max(used.size, 1), 3))
    if coloring is None:
        image[rows, place] = 0.3
    else:
        color = coloring.of_entries(pattern)[:last]
        image[rows, place] = colormaps["turbo"]((color + 0.5) / coloring.num_colors)[:, :3]
    return image
