"""The rules, one op family a file. A rule is a function ``call -> relations`` (a tuple of them for several outputs).

RULES maps the base name of an op (``add`` for add.Tensor, add_ and add.out) to its rule. Ops tagged pointwise need
none, views need none, and what has neither is decomposed, or taken to mix everything. Importing a file registers it.
"""

from __future__ import annotations

from ..registry import CHOICES, RULES, VALUE_FREE, VALUE_READERS
from . import (
    contraction,
    convolution,
    fourier,
    grids,
    indexing,
    linalg,
    losses,
    movement,
    pointwise,
    pooling,
    reduction,
    sparse,
)

FAMILIES = (
    contraction,
    convolution,
    fourier,
    grids,
    indexing,
    linalg,
    losses,
    movement,
    pointwise,
    pooling,
    reduction,
    sparse,
)

__all__ = ["CHOICES", "FAMILIES", "RULES", "VALUE_FREE", "VALUE_READERS"]
