"""From values to matrices: the block of one output leaf and one input leaf, in the layout that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .block import BLOCK_LAYOUTS, BlockMatrix, Blocks, BlockSize, bsc_by_column, bsr
from .indices import TORCH_LAYOUTS, indices_of
from .pattern import SparsityPattern


class Block:
    """Rows [r0, r1) and columns [c0, c1) of a pattern: which values are in it, and where they go.

    Index tensors are made once, on the device, when the first matrix of a layout is asked for.
    """

    def __init__(
        self, pattern: SparsityPattern, rows: tuple[int, int], columns: tuple[int, int], device: torch.device
    ) -> None:
        self.device = device
        self._inside: np.ndarray[Any, np.dtype[np.int64]] | None = None
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
        self._inside = inside + first
        self._select = torch.from_numpy(self._inside).to(device)

    @property
    def pattern(self) -> SparsityPattern:
        """The pattern of this block alone."""
        return self.indices.pattern

    @property
    def inside(self) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """Where the values of this block are among all; None for all of them."""
        if self._cut is None:
            return self._inside
        shape, rows, columns = self._cut
        return np.arange(shape[0] * shape[1]).reshape(shape)[rows, columns].reshape(-1)

    def values(self, values: torch.Tensor) -> torch.Tensor:
        """The values of this block's entries, row-major: 1-D, or the part of a dense matrix, which is not copied."""
        if self._cut is not None:
            shape, rows, columns = self._cut
            return values.reshape(shape)[rows, columns]
        return values if self._select is None else values.index_select(0, self._select)

    def matrix(self, layout: torch.layout, values: torch.Tensor) -> torch.Tensor:
        """The matrix of this block in ``layout``, from the values of all entries of the pattern."""
        mine = self.values(values)
        return TORCH_LAYOUTS[layout](self.indices, mine if layout is torch.strided else mine.reshape(-1))


class DenseBlocks:
    """As ``Block``, for the layouts of dense blocks of one size: values go straight to their places in these."""

    def __init__(self, cut: Block, layout: torch.layout, size: BlockSize) -> None:
        self.shape = cut.shape
        self._by_column = layout is torch.sparse_bsc
        self.blocks = Blocks(cut.pattern, size, self._by_column)
        self._at = indices_of(self.blocks.pattern, cut.device)
        self._fill = self.blocks.fill(cut.device, cut.inside)

    def matrix(self, layout: torch.layout, values: torch.Tensor) -> torch.Tensor:
        """The matrix in ``layout``, from the values of all entries of the pattern."""
        return (bsc_by_column if self._by_column else bsr)(self._at, self._fill(values))

    def block_matrix(self, values: torch.Tensor) -> BlockMatrix:
        """The same as a BlockMatrix, from the values of all entries of the pattern."""
        blocks = self._fill(values)
        if self._by_column:
            back = torch.empty_like(self._at.by_column[2])
            back[self._at.by_column[2]] = torch.arange(back.numel(), device=back.device)
            blocks = blocks.index_select(0, back)
        return BlockMatrix(self.blocks.pattern, blocks)


LAYOUTS = (*TORCH_LAYOUTS, *BLOCK_LAYOUTS)
"""What a result can be laid out in."""
