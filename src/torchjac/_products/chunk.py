"""How many products run at once."""

from __future__ import annotations

_CHUNK_BYTES = 256 * 2**20  # what the seeds and products of one chunk may take together, times the tensors alive in f


def chunk_size(colors: int, width: int, itemsize: int) -> int:
    """How many products of ``width`` numbers (inputs and outputs together) run at once."""
    alive = 8  # a product keeps a handful of intermediate tensors of the size of its input and output
    return max(1, min(colors, _CHUNK_BYTES // max(1, alive * width * itemsize)))
