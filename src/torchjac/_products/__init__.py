"""Products with the Jacobian at one point: J S by forward mode, S J by reverse mode, for a batch of seeds at once."""

from .chunk import chunk_size, fit
from .forward import Forward
from .reverse import Reverse, closed_over
from .ways import Direction, Products, Way

__all__ = ["Direction", "Forward", "Products", "Reverse", "Way", "chunk_size", "closed_over", "fit"]
