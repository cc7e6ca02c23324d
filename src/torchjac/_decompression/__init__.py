"""From compressed products back to the values of the entries, and from values to the matrix that was asked for."""

from .direct import gather_index
from .formats import LAYOUTS, Block, DenseBlocks
from .substitution import Substitution

__all__ = ["LAYOUTS", "Block", "DenseBlocks", "Substitution", "gather_index"]
