"""Direct recovery: every entry is alone at one place of the compressed products; one gather reads them all.

Column partition: compressed is (colors, m), entry (i, j) stands at [color(j), i]. Row partition: compressed is
(colors, n), entry (i, j) stands at [color(i), j]. (Gebremedhin, Manne, Pothen, SIAM Review 2005, section 2.)

Star coloring: at [color(j), i] if no other column of that color meets row i, and otherwise at [color(i), j].
(Gebremedhin, Tarafdar, Pothen, Walther, INFORMS J. Comput. 21 (2009), section 3.) Star bicoloring: in a forward or in
a reverse product; these are laid end to end, (num_forward, m) first. (Coleman, Verma, SIAM J. Sci. Comput. 19 (1998).)
"""

from __future__ import annotations

import numpy as np

from ..._matrices.pattern import SparsityPattern
from ..colors import Coloring, ColumnColors, RowColors
from ..equations import Places, direct_places


def gather_index(pattern: SparsityPattern, coloring: Coloring) -> Places:
    """The index of each entry in the flattened products, laid end to end: (nnz,), row-major."""
    m, n = pattern.shape
    if isinstance(coloring, ColumnColors):  # alone by definition: no need to count
        forward: Places = coloring.colors[pattern.indices].astype(np.int64) * m + pattern.rows
        return forward
    if isinstance(coloring, RowColors):
        reverse: Places = coloring.colors[pattern.rows].astype(np.int64) * n + pattern.indices
        return reverse
    equations = coloring.equations(pattern)
    return direct_places(equations, pattern, "a coloring of this pattern with direct recovery")[equations.unknown]
