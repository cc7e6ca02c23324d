"""From values to matrices: the block of one output leaf and one input leaf, in the layout that was asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, cached_property

import numpy as np
import torch

from .._pattern import SparsityPattern


class Block:
    """Rows [r0, r1) and columns [c0, c1) of a pattern: which values are in it, and how to lay them out.

    Index arrays are made once, on the device, when the first matrix of a layout is asked for.
    """

    def __init__(
        self, pattern: SparsityPattern, rows: tuple[int, int], columns: tuple[int, int], device: torch.device
    ) -> None:
        self.shape = (rows[1] - rows[0], columns[1] - columns[0])
        self._device = device
        whole = rows == (0, pattern.shape[0]) and columns == (0, pattern.shape[1])
        if whole:
            self._select, self.pattern = None, pattern
            return
        first, last = int(pattern.indptr[rows[0]]), int(pattern.indptr[rows[1]])
        places = pattern.indices[first:last]
        inside = np.flatnonzero((places >= columns[0]) & (places < columns[1]))
        counts = np.bincount(pattern.rows[first:last][inside] - rows[0], minlength=self.shape[0])
        self.pattern = SparsityPattern.from_csr(
            np.concatenate([[0], np.cumsum(counts)]), places[inside] - columns[0], self.shape
        )
        self._select = torch.from_numpy(inside + first).to(device)

    def values(self, values: torch.Tensor) -> torch.Tensor:
        """The values of this block's entries, row-major."""
        return values if self._select is None else values.index_select(0, self._select)

    @cached_property
    def _crow(self) -> torch.Tensor:
        return self.pattern.crow_indices.to(self._device)

    @cached_property
    def _columns(self) -> torch.Tensor:
        return self.pattern.col_indices.to(self._device)

    @cached_property
    def _rows(self) -> torch.Tensor:
        return torch.from_numpy(self.pattern.rows.astype(np.int64)).to(self._device)

    @cached_property
    def _by_column(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(column pointers, rows, permutation of the values) of the same entries, column by column."""
        order = np.argsort(self.pattern.indices, kind="stable")
        counts = np.bincount(self.pattern.indices, minlength=self.shape[1])
        pointers = torch.from_numpy(np.concatenate([[0], np.cumsum(counts)]))
        permutation = torch.from_numpy(order).to(self._device)
        return pointers.to(self._device), self._rows[permutation], permutation

    def strided(self, values: torch.Tensor) -> torch.Tensor:
        """(rows, columns), with zeros where nothing is stored."""
        if self.pattern.nnz == self.shape[0] * self.shape[1]:
            return values.reshape(self.shape)
        flat = torch.zeros(self.shape[0] * self.shape[1], dtype=values.dtype, device=values.device)
        return flat.index_copy(0, self._places, values).reshape(self.shape)

    @cached_property
    def _places(self) -> torch.Tensor:
        return self._rows * self.shape[1] + self._columns

    def coo(self, values: torch.Tensor) -> torch.Tensor:
        """torch.sparse_coo, coalesced."""
        return torch.sparse_coo_tensor(
            torch.stack([self._rows, self._columns]), values, self.shape, is_coalesced=True, check_invariants=False
        )

    def csr(self, values: torch.Tensor) -> torch.Tensor:
        """torch.sparse_csr."""
        _silence_beta()
        return torch.sparse_csr_tensor(self._crow, self._columns, values, self.shape, check_invariants=False)

    def csc(self, values: torch.Tensor) -> torch.Tensor:
        """torch.sparse_csc."""
        _silence_beta()
        pointers, rows, permutation = self._by_column
        return torch.sparse_csc_tensor(
            pointers, rows, values.index_select(0, permutation), self.shape, check_invariants=False
        )


@cache
def _silence_beta() -> None:
    """PyTorch says once in a process that compressed sparse tensors are in beta; who asks for one knows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.zeros(2, dtype=torch.int64), [], [], (1, 1), check_invariants=False)


LAYOUTS: dict[torch.layout, Callable[[Block, torch.Tensor], torch.Tensor]] = {
    torch.strided: Block.strided,
    torch.sparse_coo: Block.coo,
    torch.sparse_csr: Block.csr,
    torch.sparse_csc: Block.csc,
}
