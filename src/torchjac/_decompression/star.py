"""Direct recovery from a star coloring: an entry, or its mirror image, is alone in a product; one gather reads it.

Gebremedhin, Tarafdar, Pothen, Walther, "Efficient computation of sparse Hessians using coloring and automatic
differentiation", INFORMS J. Comput. 21 (2009), section 3: (i, j) stands at [color(j), i] if no other column of that
color meets row i, and otherwise at [color(i), j].
"""

from __future__ import annotations

from .._colors import StarColors
from .._equations import Places, direct_places
from .._pattern import SparsityPattern


def star_index(pattern: SparsityPattern, coloring: StarColors) -> Places:
    """Where in the flattened products (num_colors, n) each entry stands, row-major: (nnz,)."""
    equations = coloring.equations(pattern)
    return direct_places(equations, pattern, "a star coloring of this pattern")[equations.unknown]
