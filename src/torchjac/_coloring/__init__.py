"""Coloring: from a sparsity pattern to groups of columns and rows that share a product."""

from .choose import color as color
from .choose import color_best as color_best
