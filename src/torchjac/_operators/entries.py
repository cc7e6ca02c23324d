"""Entries of a matrix that is known by its products alone: which products to take, and where their numbers go.

An index is applied, by torch itself, to the row and the column number of every entry; what comes out says of each
number that is asked for which entry it is. Entries outside a known pattern are zero and cost nothing. The rest come
from products with sums of unit vectors: two columns may share one unless one of them has an entry in a row where an
entry of the other is asked for (partial coloring; Gebremedhin, Manne, Pothen 2005, section 3.6), and rows likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._pytree import tree_map

from .._base.words import Colors, Direction
from .._coloring.color import color
from .._matrices.pattern import SparsityPattern
from .._matrices.row_sets import IntArray
from .._products.chunk import chunk_size
from .._products.seeds import Seeds

Bools = npt.NDArray[np.bool_]


class ByProducts(Protocol):
    """A matrix by its products: ``jvps``: (k, n) -> (k, m), ``vjps``: (k, m) -> (k, n)."""

    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device

    @property
    def pattern(self) -> SparsityPattern | None: ...
    def jvps(self, seeds: torch.Tensor) -> torch.Tensor: ...
    def vjps(self, seeds: torch.Tensor) -> torch.Tensor: ...
    def all_values(self, at_most: int) -> torch.Tensor | None: ...
    def vouch(self) -> None: ...


@dataclass(frozen=True)
class Lanes:
    """Columns (forward) or rows (reverse) that share products: the color of each, -1 for one that needs none."""

    direction: Direction
    colors: Colors
    count: int


def entries_at(shape: tuple[int, int], index: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the row and the column of every entry that ``dense[index]`` would hold, in its shape."""
    (m, n), here = shape, tree_map(_on_cpu, index)
    rows, columns = torch.arange(m).reshape(m, 1).expand(m, n), torch.arange(n).expand(m, n)
    return rows[here], columns[here]


def select(matrix: ByProducts, index: object) -> torch.Tensor:
    """Return ``dense[index]`` of the matrix."""
    rows, columns = entries_at(matrix.shape, index)
    out = torch.zeros(rows.shape, dtype=matrix.dtype, device=matrix.device)
    if out.numel() == 0:
        return out
    flat_rows, flat_columns = rows.reshape(-1).numpy(), columns.reshape(-1).numpy()
    places: IntArray = np.arange(flat_rows.size)
    if matrix.pattern is None:
        lanes = fewest_lines(matrix.shape, flat_rows, flat_columns)
    else:
        matrix.vouch()
        entries, places = _stored(matrix.pattern, flat_rows, flat_columns)
        if not entries.size:
            return out
        flat_rows, flat_columns = flat_rows[places], flat_columns[places]
        wanted = np.zeros(matrix.pattern.nnz, bool)
        wanted[entries] = True
        lanes = fewest_products(matrix.pattern, wanted)
        if (values := matrix.all_values(lanes.count)) is not None:
            return _put(out, [places], [values[torch.from_numpy(entries).to(values.device)]])
    return _put(out, *_gather(matrix, lanes, flat_rows, flat_columns, places))


def fewest_lines(shape: tuple[int, int], rows: IntArray, columns: IntArray) -> Lanes:
    """Return a product for every row that is asked for, or for every column, whichever are fewer."""
    by_row, by_column = _numbered(rows, shape[0]), _numbered(columns, shape[1])
    if by_column[1] < by_row[1]:
        return Lanes("forward", *by_column)
    return Lanes("reverse", *by_row)


def fewest_products(pattern: SparsityPattern, wanted: Bools) -> Lanes:
    """Return the fewest products that hold every ``wanted`` entry, (nnz,), alone: the better of two colorings."""
    (m, n), rows, columns = pattern.shape, pattern.rows, pattern.indices
    row_numbers, row_count = _numbered(rows[wanted], m)
    column_numbers, column_count = _numbered(columns[wanted], n)
    if row_count == 1:
        return Lanes("reverse", row_numbers, 1)
    inside = (row_numbers[rows] >= 0) & (column_numbers[columns] >= 0)
    shape, numbers, asked = (row_count, column_count), row_numbers[rows[inside]], wanted[inside]
    there = _by_rows(numbers, column_numbers[columns[inside]], shape)
    entries = None if asked.all() else _by_rows(numbers[asked], there.indices[asked], shape)
    by_row = color(there, "row", entries=entries)
    if by_row.num_colors > 1:
        by_column = color(there, "column", entries=entries)
        if by_column.num_colors < by_row.num_colors:
            return Lanes("forward", _spread(by_column.colors, column_numbers), by_column.num_colors)
    return Lanes("reverse", _spread(by_row.colors, row_numbers), by_row.num_colors)


def _by_rows(rows: IntArray, columns: IntArray, shape: tuple[int, int]) -> SparsityPattern:
    """Return the pattern of entries that are in order already."""
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    return SparsityPattern.from_csr(pointers, columns, shape)


def _spread(colors: Colors, numbers: Colors) -> Colors:
    """Return the color of every member, -1 for those without a number, from the colors of the numbered ones."""
    return np.where(numbers >= 0, colors[numbers], -1).astype(np.int32)


def _gather(
    matrix: ByProducts, lanes: Lanes, rows: IntArray, columns: IntArray, places: IntArray
) -> tuple[list[IntArray], list[torch.Tensor]]:
    """Return places and numbers, from a chunk of products at a time, so that none is ever wider than what fits."""
    seeds = Seeds(lanes.colors, matrix.dtype, matrix.device)
    by_column = lanes.direction == "forward"
    lane, other = (lanes.colors[columns], rows) if by_column else (lanes.colors[rows], columns)
    chunk = chunk_size(lanes.count, sum(matrix.shape), matrix.dtype.itemsize)
    order = np.argsort(lane, kind="stable") if chunk < lanes.count else np.arange(lane.size)
    cuts = np.searchsorted(lane[order], np.arange(0, lanes.count, chunk)) if chunk < lanes.count else np.zeros(1, int)
    ends = np.append(cuts[1:], lane.size)
    targets, parts = [], []
    for start, first, last in zip(range(0, lanes.count, chunk), cuts, ends, strict=True):
        some, stop = order[first:last], min(start + chunk, lanes.count)
        products = (matrix.jvps if by_column else matrix.vjps)(seeds.chunk(start, stop))
        at = (lane[some].astype(np.int64) - start) * products.shape[1] + other[some]
        parts.append(products.reshape(-1).index_select(0, torch.from_numpy(at).to(products.device)))
        targets.append(places[some])
    return targets, parts


def _put(out: torch.Tensor, places: list[IntArray], parts: list[torch.Tensor]) -> torch.Tensor:
    where = torch.from_numpy(np.concatenate(places)).to(out.device)
    return out.reshape(-1).index_copy(0, where, torch.cat(parts)).reshape(out.shape)


def _stored(pattern: SparsityPattern, rows: IntArray, columns: IntArray) -> tuple[IntArray, IntArray]:
    """Return entries of the pattern, and which of those asked for they are; what is not stored is left out."""
    width = max(pattern.shape[1], 1)
    lines = np.flatnonzero(_numbered(rows, pattern.shape[0])[0] >= 0)  # only these rows are looked through
    lengths = pattern.indptr[lines + 1] - pattern.indptr[lines]
    begins = np.cumsum(lengths) - lengths
    entries = np.arange(lengths.sum()) + np.repeat(pattern.indptr[lines] - begins, lengths)
    keys = np.repeat(lines, lengths).astype(np.int64) * width + pattern.indices[entries]
    asked = rows.astype(np.int64) * width + columns
    at = np.searchsorted(keys, asked)
    found = np.flatnonzero(at < keys.size)
    found = found[keys[at[found]] == asked[found]]
    return entries[at[found]], found


def _numbered(members: IntArray, size: int) -> tuple[Colors, int]:
    """Return the number of each member that occurs, in rising order, -1 for others, (size,); and how many occur."""
    occurs = np.zeros(size, bool)
    occurs[members] = True
    numbers = np.cumsum(occurs, dtype=np.int32) - 1
    return np.where(occurs, numbers, -1).astype(np.int32), int(occurs.sum())


def _on_cpu(index: object) -> object:
    if isinstance(index, np.ndarray):
        index = torch.from_numpy(index)
    return index.cpu() if isinstance(index, torch.Tensor) else index
