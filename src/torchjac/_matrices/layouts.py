"""Submatrices of one output leaf and one input leaf, made from the values of all entries, in any layout of torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from .block import BlockMatrix
from .blocking import BLOCK_LAYOUTS, Blocking, BlockSize
from .indices import TORCH_LAYOUTS, indices_of
from .pattern import SparsityPattern

Positions = npt.NDArray[np.int64]


class Submatrix:
    """The rows [r0, r1) and columns [c0, c1) of a pattern: the values in it, and their places.

    Index tensors are made once, on the device, when the first matrix of a layout is asked for.
    """

    def __init__(
        self, pattern: SparsityPattern, rows: tuple[int, int], columns: tuple[int, int], device: torch.device
    ) -> None:
        self.device = device
        self._inside: Positions | None = None
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
        """The pattern of this submatrix alone."""
        return self.indices.pattern

    @property
    def inside(self) -> Positions | None:
        """The positions of its values among those of all entries; None where it has all of them."""
        if self._cut is None:
            return self._inside
        shape, rows, columns = self._cut
        return np.arange(shape[0] * shape[1]).reshape(shape)[rows, columns].reshape(-1)

    def values(self, values: torch.Tensor) -> torch.Tensor:
        """The values of its entries, row-major: 1-D, or a view of a part of a dense matrix."""
        if self._cut is not None:
            shape, rows, columns = self._cut
            return values.reshape(shape)[rows, columns]
        return values if self._select is None else values.index_select(0, self._select)

    def writer(self, layout: torch.layout) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the function from values to the matrix in ``layout``."""
        whole = self._cut is None and self._select is None
        return partial(TORCH_LAYOUTS[layout], self.indices) if whole else partial(self.matrix, layout)

    def matrix(self, layout: torch.layout, values: torch.Tensor) -> torch.Tensor:
        """The matrix in ``layout``, from the values of all entries of the pattern."""
        mine = self.values(values)
        return TORCH_LAYOUTS[layout](self.indices, mine if layout is torch.strided else mine.reshape(-1))


class BlockedSubmatrix:
    """A ``Submatrix`` in a layout of dense blocks of one size: values go straight to their places in the blocks."""

    def __init__(self, cut: Submatrix, layout: torch.layout, size: BlockSize) -> None:
        self.shape = cut.shape
        self.blocks = Blocking(cut.pattern, size, by_column=layout is torch.sparse_bsc)
        self._fill = self.blocks.fill(cut.device, cut.inside)

    def writer(self, layout: torch.layout) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the function from values to the matrix in ``layout``."""
        return partial(self.matrix, layout)

    def matrix(self, layout: torch.layout, values: torch.Tensor) -> torch.Tensor:
        """The matrix in ``layout``, from the values of all entries of the pattern."""
        return self.blocks.tensor(self._fill(values))

    def block_matrix(self, values: torch.Tensor) -> BlockMatrix:
        """The BlockMatrix, from the values of all entries of the pattern."""
        blocks = self._fill(values)
        if self.blocks.by_column:
            permutation = indices_of(self.blocks.pattern, blocks.device).by_column[2]
            back = torch.empty_like(permutation)
            back[permutation] = torch.arange(back.numel(), device=back.device)
            blocks = blocks.index_select(0, back)
        return BlockMatrix(self.blocks.pattern, blocks)


LAYOUTS = (*TORCH_LAYOUTS, *BLOCK_LAYOUTS)
"""All layouts that a result can have."""
