"""Direct recovery: every entry stands somewhere in the compressed products; one gather brings them all.

Column partition: compressed is (colors, m), entry (i, j) stands at [color(j), i]. Row partition: compressed is
(colors, n), entry (i, j) stands at [color(i), j]. (Gebremedhin, Manne, Pothen, SIAM Review 2005, section 2.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._colors import Coloring, ColumnColors
from .._pattern import SparsityPattern


def gather_index(pattern: SparsityPattern, coloring: Coloring) -> npt.NDArray[np.int64]:
    """Where in the flattened compressed matrix each entry stands, in row-major order of the pattern: (nnz,)."""
    m, n = pattern.shape
    if isinstance(coloring, ColumnColors):
        return coloring.colors[pattern.indices].astype(np.int64) * m + pattern.rows
    return coloring.colors[pattern.rows].astype(np.int64) * n + pattern.indices
