"""From compressed products back to the values of the entries, and from values to the matrix that was asked for."""

from .direct import gather_index
from .formats import LAYOUTS, Block

__all__ = ["LAYOUTS", "Block", "gather_index"]
