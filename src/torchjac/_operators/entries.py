"""Entries of a matrix that is known by its products alone: which products to take, and where their numbers go.

An index is applied, by torch itself, to the row and the column number of every entry; what comes out says of each
number that is asked for which entry it is. Entries outside a known pattern are zero and cost nothing. The rest come
from products with sums of unit vectors: two columns may share one unless one of them has an entry in a row where an
entry of the other is asked for (partial coloring; Gebremedhin, Manne, Pothen 2005, section 3.6), and rows likewise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._pytree import tree_map

from .._coloring.color import color
from .._matrices.pattern import SparsityPattern
from .._matrices.row_sets import IntArray
from .._products.chunk import chunk_size
from .._products.seeds import Seeds

Side = Literal["columns", "rows"]
Bools = npt.NDArray[np.bool_]

_MANY = 20_000_000  # so many pairs of entries are not written out: the coloring may then take more products


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
    """Which members of one side share a product: the color of each column or row, -1 for one that needs none."""

    side: Side
    colors: npt.NDArray[np.int32]
    count: int


def entries_at(shape: tuple[int, int], index: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The row and the column of every entry that ``dense[index]`` would hold, in its shape."""
    (m, n), here = shape, tree_map(_on_cpu, index)
    rows, columns = torch.arange(m).reshape(m, 1).expand(m, n), torch.arange(n).expand(m, n)
    return rows[here], columns[here]


def select(matrix: ByProducts, index: Any) -> torch.Tensor:
    """``dense[index]`` of the matrix."""
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
    """A product for every row that is asked for, or for every column, whichever are fewer."""
    by_row, by_column = _numbered(rows, shape[0]), _numbered(columns, shape[1])
    if by_column[1] < by_row[1]:
        return Lanes("columns", *by_column)
    return Lanes("rows", *by_row)


def fewest_products(pattern: SparsityPattern, wanted: Bools) -> Lanes:
    """The fewest products that hold every ``wanted`` entry, (nnz,), alone."""
    (m, n), rows, columns = pattern.shape, pattern.rows, pattern.indices
    by_row = Lanes("rows", *_shared(columns, rows, wanted, n, m))
    if by_row.count == 1:
        return by_row
    by_column = Lanes("columns", *_shared(rows, columns, wanted, m, n))
    return by_column if by_column.count < by_row.count else by_row


def _shared(
    lines: IntArray, members: IntArray, wanted: Bools, height: int, width: int
) -> tuple[npt.NDArray[np.int32], int]:
    """Colors of the members that have wanted entries; members meet in lines."""
    numbers, count = _numbered(members[wanted], width)
    if count == 1:
        return numbers, 1
    line_numbers, line_count = _numbered(lines[wanted], height)
    meeting = (line_numbers[lines] >= 0) & (numbers[members] >= 0)
    at_line, at_member = line_numbers[lines[meeting]], numbers[members[meeting]]
    wanted = wanted[meeting]
    rivals = SparsityPattern.from_coo(at_line, at_member, (line_count, count))
    if not wanted.all() and (pairs := _pairs(at_line, at_member, wanted, line_count, count)) is not None:
        rivals = pairs
    found = color(rivals, "column")
    colors = np.maximum(found.colors, 0)  # a member without rivals goes with any
    out = np.full(width, -1, np.int32)
    out[numbers >= 0] = colors
    return out, max(found.num_colors, 1)


def _pairs(lines: IntArray, members: IntArray, wanted: Bools, height: int, width: int) -> SparsityPattern | None:
    """A row for every two members that must not share: one has a wanted entry where the other has any."""
    order = np.argsort(lines, kind="stable")
    lines, members, wanted = lines[order], members[order], wanted[order]
    lengths = np.bincount(lines, minlength=height)
    starts = np.cumsum(lengths) - lengths
    asked = lines[wanted]
    counts = lengths[asked]
    if counts.sum() > _MANY:
        return None
    first = np.repeat(members[wanted], counts).astype(np.int64)
    within = np.arange(first.size) - np.repeat(np.cumsum(counts) - counts, counts)
    second = members[np.repeat(starts[asked], counts) + within]
    differ = first != second
    low, high = np.minimum(first, second)[differ], np.maximum(first, second)[differ]
    edges = np.unique(low * width + high)
    ends = np.stack([edges // width, edges % width], 1).reshape(-1)
    return SparsityPattern.from_csr(2 * np.arange(edges.size + 1), ends, (edges.size, width))


def _gather(
    matrix: ByProducts, lanes: Lanes, rows: IntArray, columns: IntArray, places: IntArray
) -> tuple[list[IntArray], list[torch.Tensor]]:
    """Places and numbers, a chunk of products at a time, so that none is ever wider than what fits."""
    seeds = Seeds(lanes.colors, matrix.dtype, matrix.device)
    by_column = lanes.side == "columns"
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
    """(entries of the pattern, which of what is asked for they are); what is not stored is left out."""
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


def _numbered(members: IntArray, size: int) -> tuple[npt.NDArray[np.int32], int]:
    """(size,) the number of each distinct member, in rising order, -1 for those that do not occur; how many occur."""
    occurs = np.zeros(size, bool)
    occurs[members] = True
    numbers = np.cumsum(occurs, dtype=np.int32) - 1
    return np.where(occurs, numbers, -1).astype(np.int32), int(occurs.sum())


def _on_cpu(index: Any) -> Any:
    if isinstance(index, np.ndarray):
        index = torch.from_numpy(index)
    return index.cpu() if isinstance(index, torch.Tensor) else index
