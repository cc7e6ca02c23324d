"""Sums over the entries of a Jacobian, a piece at a time: a check takes little memory beside what it checks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from .._matrices.pattern import SparsityPattern
from .._matrices.row_sets import IntArray

_PIECE, _PIECE_ON_DEVICE = 2**14, 2**22  # entries: on a CPU what stays in its caches, elsewhere what keeps it busy
_ROWS = 2  # times as many where they are whole rows: there are no indices beside them


class EntrySums:
    """Products of the (m, n) matrix that has ``values``, (nnz,) and row-major, in the entries of ``pattern``.

    What the absolute values of the terms of a sum add up to is the scale of its rounding errors. No index tensors of
    all entries are made.
    """

    def __init__(self, pattern: SparsityPattern, device: torch.device) -> None:
        self._pattern, self._device = pattern, device
        self._piece = _PIECE if device.type == "cpu" else _PIECE_ON_DEVICE

    def by_column(self, values: torch.Tensor, u: torch.Tensor, absolute: bool = False) -> torch.Tensor:
        """Return J^T u: (m,) -> (n,); ``absolute``: what the absolute values of the terms add up to."""
        u = u.abs() if absolute else u
        total = u.new_zeros(self._pattern.shape[1])
        if self._full:
            for start, stop, block in self._blocks(values):
                total += u[start:stop] @ (block.abs() if absolute else block)
            return total
        for start, stop, rows, columns in self._pieces():
            terms = values[start:stop] * u[rows]
            total.index_add_(0, columns, terms.abs_() if absolute else terms)
        return total

    def by_row(self, values: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return J v, (n,) -> (m,), and the same sums of absolute values."""
        total, size = v.new_zeros((2, self._pattern.shape[0]))
        for start, stop, rows, columns in self._pieces():
            terms = values[start:stop] * v[columns]
            total.index_add_(0, rows, terms)
            size.index_add_(0, rows, terms.abs_())
        return total, size

    def columns_of(self, u: torch.Tensor) -> torch.Tensor:
        """Return for each column the sum of |u| over the rows that have an entry in it: (m,) -> (n,)."""
        if self._full:
            return u.abs().sum().expand(self._pattern.shape[1])
        total = u.new_zeros(self._pattern.shape[1])
        for _, _, rows, columns in self._pieces():
            total.index_add_(0, columns, u[rows].abs_())
        return total

    def outer(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return u_i v_j for every entry (i, j): (nnz,)."""
        if self._full:
            return torch.outer(u, v).reshape(-1)
        out = u.new_empty(self._pattern.nnz)
        for start, stop, rows, columns in self._pieces():
            torch.mul(u[rows], v[columns], out=out[start:stop])
        return out

    def columns(self, row: int) -> torch.Tensor:
        """Return the columns of the entries of a row."""
        return self._here(self._pattern.indices[self._pattern.indptr[row] : self._pattern.indptr[row + 1]])

    @property
    def _full(self) -> bool:
        m, n = self._pattern.shape
        return 0 < m * n == self._pattern.nnz

    def _blocks(self, values: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Yield whole rows of a matrix without zeros: (first row, last row + 1, block)."""
        m, n = self._pattern.shape
        length = max(1, _ROWS * self._piece // n)
        for start in range(0, m, length):
            stop = min(start + length, m)
            yield start, stop, values[start * n : stop * n].reshape(stop - start, n)

    def _pieces(self) -> Iterator[tuple[int, int, torch.Tensor, torch.Tensor]]:
        """Yield entries piece by piece: (first entry, last entry + 1, rows, columns)."""
        indptr, indices = self._pattern.indptr, self._pattern.indices
        for start in range(0, self._pattern.nnz, self._piece):
            stop = min(start + self._piece, self._pattern.nnz)
            first, last = int(np.searchsorted(indptr, start, "right")) - 1, int(np.searchsorted(indptr, stop, "left"))
            counts = np.diff(indptr[first : last + 1].clip(start, stop))
            yield start, stop, self._here(np.repeat(np.arange(first, last), counts)), self._here(indices[start:stop])

    def _here(self, indices: IntArray) -> torch.Tensor:
        return torch.from_numpy(indices.astype(np.int64, copy=False)).to(self._device)
