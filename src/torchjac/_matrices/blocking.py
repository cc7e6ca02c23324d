"""Blocking: which dense blocks of one size hold an entry of a pattern, and torch's two layouts of such blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .._base.errors import OptionError, PatternError
from .indices import Indices, indices_of, silence_beta
from .pattern import SparsityPattern
from .row_sets import IntArray

BlockSize = tuple[int, int]


class Blocking:
    """The blocks of an (m, n) ``pattern`` that hold an entry, and the place of each entry in them.

    places: (nnz,), the index of each entry in the ravelled (blocks, p, q) values. Blocks are numbered row by row, with
    ``by_column`` column by column.
    """

    def __init__(self, pattern: SparsityPattern, size: BlockSize, by_column: bool = False) -> None:
        check_blocksize(pattern.shape, size)
        (m, n), (p, q) = pattern.shape, size
        rows, columns = np.divmod(pattern.rows, p), np.divmod(pattern.indices, q)
        keys = rows[0].astype(np.int64) * (n // q) + columns[0]
        distinct, block = np.unique(keys, return_inverse=True)
        self.pattern = SparsityPattern.from_coo(distinct // max(n // q, 1), distinct % max(n // q, 1), (m // p, n // q))
        self.pattern.inherit(pattern)
        if by_column:
            order = np.argsort(self.pattern.indices, kind="stable")
            number = np.empty(order.size, np.int64)
            number[order] = np.arange(order.size)
            block = number[block]
        self.size, self.by_column = size, by_column
        self.places: IntArray = block * (p * q) + rows[1] * q + columns[1]

    @property
    def full(self) -> bool:
        """Whether every number of every block is an entry."""
        return self.places.size == self.pattern.nnz * self.size[0] * self.size[1]

    def fill(self, device: torch.device, select: IntArray | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
        """The function from values, (nnz,), to blocks, (blocks, p, q).

        With ``select`` it takes the values of a larger matrix, in which those of this pattern are the selected ones.
        """
        shape = (self.pattern.nnz, *self.size)
        if self.full:
            gather = np.empty(self.places.size, np.int64)
            gather[self.places] = np.arange(self.places.size) if select is None else select
            index = torch.from_numpy(gather).to(device)
            return lambda values: values.index_select(0, index).reshape(shape)
        places = torch.from_numpy(self.places.astype(np.int64, copy=False)).to(device)
        chosen = None if select is None else torch.from_numpy(select).to(device)

        def scatter(values: torch.Tensor) -> torch.Tensor:
            mine = values if chosen is None else values.index_select(0, chosen)
            zeros = values.new_zeros(self.pattern.nnz * self.size[0] * self.size[1])
            return zeros.index_copy(0, places, mine).reshape(shape)

        return scatter

    def tensor(self, blocks: torch.Tensor) -> torch.Tensor:
        """The blocks, (blocks, p, q), as torch.sparse_bsr; with ``by_column`` as torch.sparse_bsc."""
        return (bsc_by_column if self.by_column else bsr)(indices_of(self.pattern, blocks.device), blocks)


def in_blocks(pattern: SparsityPattern, values: torch.Tensor, layout: torch.layout, blocksize: object) -> torch.Tensor:
    """The values of ``pattern`` in one of ``BLOCK_LAYOUTS``, with zeros around them; differentiable."""
    blocking = Blocking(pattern, _divisor(pattern.shape, blocksize), layout is torch.sparse_bsc)
    return blocking.tensor(blocking.fill(values.device)(values))


def check_blocksize(shape: tuple[int, int], size: BlockSize, where: str = "a matrix") -> None:
    """Raise PatternError unless a matrix of ``shape`` is made of blocks of ``size``."""
    if shape[0] % size[0] or shape[1] % size[1]:
        raise PatternError(
            f"blocksize={size} for {where} of shape {shape}",
            expected="a size that divides the shape",
            why="a block layout holds whole blocks",
        )


def _divisor(shape: tuple[int, int], blocksize: object) -> BlockSize:
    """The block size (rows, columns); OptionError unless these are positive and divide ``shape``."""
    sizes = blocksize if isinstance(blocksize, tuple) and len(blocksize) == 2 else (0, 0)
    whole = all(isinstance(b, int) and b > 0 for b in sizes)
    if not whole or any(size % b for size, b in zip(shape, sizes, strict=True)):
        raise OptionError(
            f"blocksize={blocksize!r} for a {shape[0]} x {shape[1]} matrix",
            expected="(rows, columns) of a block, that divide those of the matrix",
            instead="to_torch(torch.sparse_bsr, blocksize=(1, 1))",
        )
    return int(sizes[0]), int(sizes[1])


# ---- the layouts


def bsr(at: Indices, values: torch.Tensor) -> torch.Tensor:
    """The torch.sparse_bsr tensor of blocks given row by row."""
    return _compressed(torch.sparse_bsr_tensor, at, at.crow, at.columns, values)


def bsc(at: Indices, values: torch.Tensor) -> torch.Tensor:
    """The torch.sparse_bsc tensor of blocks given row by row."""
    return bsc_by_column(at, values.index_select(0, at.by_column[2]))


def bsc_by_column(at: Indices, values: torch.Tensor) -> torch.Tensor:
    """The torch.sparse_bsc tensor of blocks given column by column."""
    pointers, rows, _ = at.by_column
    return _compressed(torch.sparse_bsc_tensor, at, pointers, rows, values)


def _compressed(
    make: Callable[..., torch.Tensor], at: Indices, pointers: torch.Tensor, places: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    silence_beta()
    shape = (at.shape[0] * values.shape[1], at.shape[1] * values.shape[2])
    return make(pointers, places, values, shape, check_invariants=False)


BLOCK_LAYOUTS: dict[torch.layout, Callable[[Indices, torch.Tensor], torch.Tensor]] = {
    torch.sparse_bsr: bsr,
    torch.sparse_bsc: bsc,
}
