"""Products with the Jacobian at one point: J S by forward mode, S J by reverse mode, for a batch of seeds at once."""

from .chunk import chunk_size, fit, in_chunks, out_of_memory
from .forward import Forward
from .linearized import Linearized
from .reverse import Reverse, closed_over
from .run import Run
from .ways import Direction, Products, Way

__all__ = [
    "Direction",
    "Forward",
    "Linearized",
    "Products",
    "Reverse",
    "Run",
    "Way",
    "chunk_size",
    "closed_over",
    "fit",
    "in_chunks",
    "out_of_memory",
]
