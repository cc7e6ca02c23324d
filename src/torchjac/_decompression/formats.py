"""From values to matrices: the block of one output leaf and one input leaf, in the layout that was asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .._indices import TORCH_LAYOUTS, Indices, indices_of, strided
from .._pattern import SparsityPattern


class Block:
    """Rows [r0, r1) and columns [c0, c1) of a pattern: which values are in it, and where they go.

    Index tensors are made once, on the device, when the first matrix of a layout is asked for.
    """

    def __init__(
        self, pattern: SparsityPattern, rows: tuple[int, int], columns: tuple[int, int], device: torch.device
    ) -> None:
        self.shape = (rows[1] - rows[0], columns[1] - columns[0])
        self._cut: tuple[tuple[int, int], slice, slice] | None = None
        whole = rows == (0, pattern.shape[0]) and columns == (0, pattern.shape[1])
        if whole:
            self._select, self.indices = None, indices_of(pattern, device)
            return
        if pattern.nnz == pattern.shape[0] * pattern.shape[1]:  # dense: cut out, not picked one by one
            self._cut = pattern.shape, slice(*rows), slice(*columns)
            self._select, self.indices = None, indices_of(SparsityPattern.full(self.shape), device)
            return
        first, last = int(pattern.indptr[rows[0]]), int(pattern.indptr[rows[1]])
        places = pattern.indices[first:last]
        inside = np.flatnonzero((places >= columns[0]) & (places < columns[1]))
        counts = np.bincount(pattern.rows[first:last][inside] - rows[0], minlength=self.shape[0])
        part = SparsityPattern.from_csr(
            np.concatenate([[0], np.cumsum(counts)]), places[inside] - columns[0], self.shape
        )
        self.indices = indices_of(part, device)
        self._select = torch.from_numpy(inside + first).to(device)

    @property
    def pattern(self) -> SparsityPattern:
        """The pattern of this block alone."""
        return self.indices.pattern

    def values(self, values: torch.Tensor) -> torch.Tensor:
        """The values of this block's entries, row-major: 1-D, or the part of a dense matrix, which is not copied."""
        if self._cut is not None:
            shape, rows, columns = self._cut
            return values.reshape(shape)[rows, columns]
        return values if self._select is None else values.index_select(0, self._select)


def _of_blocks(
    lay_out: Callable[[Indices, torch.Tensor], torch.Tensor],
) -> Callable[[Block, torch.Tensor], torch.Tensor]:
    if lay_out is strided:
        return lambda block, values: lay_out(block.indices, values)
    return lambda block, values: lay_out(block.indices, values.reshape(-1))


LAYOUTS = {layout: _of_blocks(lay_out) for layout, lay_out in TORCH_LAYOUTS.items()}
