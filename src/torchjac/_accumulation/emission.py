"""Write coefficients as the values of a pattern, in row-major order.

Where every row holds the same columns in the same order relative to its slots (most rows of a stencil, all of an
element's block), the values are the coefficients laid side by side: one write, no gather. Rows that differ (at the
border of a periodic grid) are corrected afterwards. Values without such an order are gathered, or summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .._matrices.pattern import SparsityPattern
from .coefficients.ordering import positions
from .coefficients.slots import Coefficient, Entries, Ints, Slot, State
from .tape.recorder import Recorder
from .tensor_map import is_one_number

_MOSTLY = 0.9  # share of the values that must be in order for the others to be corrected
_SAMPLE = 1000  # coefficients from which an order is guessed; all are compared with it later
_STRIPES, _HOLES = 16, 1.1  # pieces that values are cut into, and places of slots for each value, at most


@dataclass(frozen=True)
class Source:
    """Coefficients and their places in the matrix: ``rows[k], columns[k]`` for flat element k, -1 for nowhere."""

    coefficient: Coefficient
    shape: torch.Size
    like: torch.Tensor
    rows: Ints
    columns: Ints

    @classmethod
    def of_slot(cls, state: State, slot: Slot, ids: Ints, start: int, transposed: bool) -> Source:
        """Return the source of a slot of an output (its ids are columns) or, transposed, of an input (ids are rows)."""
        own = np.where(ids >= 0, np.arange(start, start + ids.size), -1)
        rows, columns = (ids, own) if transposed else (own, ids)
        return cls(slot.coefficient, state.shape, state.like, rows, columns)

    @classmethod
    def of_entries(cls, entries: Entries, start: int, transposed: bool) -> Source:
        own = entries.rows + start
        rows, columns = (entries.columns, own) if transposed else (own, entries.columns)
        return cls(entries.values, entries.values.shape, entries.values.new_zeros(()), rows, columns)

    def is_constant(self, recorder: Recorder) -> bool:
        return isinstance(self.coefficient, torch.Tensor) and recorder.is_constant(self.coefficient)

    def as_number(self) -> Source:
        """Return the source with one number for equal coefficients: it need not be read from memory."""
        c = self.coefficient
        if not isinstance(c, torch.Tensor) or not is_one_number(c):
            return self
        return replace(self, coefficient=float(c.reshape(-1)[0]))

    def full(self, dtype: torch.dtype) -> torch.Tensor:
        """Return the coefficients as a tensor of ``shape``."""
        c = self.coefficient
        c = c if isinstance(c, torch.Tensor) else torch.full_like(self.like, c)
        return c.to(dtype).expand(self.shape)


def emit(
    sources: Sequence[Source],
    pattern: SparsityPattern,
    dtype: torch.dtype,
    device: torch.device,
    recorder: Recorder,
    part: bool,
    symmetric: bool = False,
) -> tuple[torch.Tensor, float]:
    """Return the (nnz,) values, and the share of them that needed no gather.

    ``part``: drop entries that the pattern does not have. ``symmetric``: the matrix is symmetric, and one triangle is
    computed.
    """
    sources = [source.as_number() if source.is_constant(recorder) else source for source in sources]
    nnz = pattern.nnz
    places = [_positions(source, pattern, part) for source in sources]
    target = np.concatenate([*places, np.empty(0, np.int64)])
    kept = np.flatnonzero(target >= 0)
    if kept.size == 0:
        return torch.zeros(nnz, dtype=dtype, device=device), 1.0
    apart = int(np.bincount(target[kept]).max()) == 1
    if apart:
        tiled = _tiled(sources, places, nnz, dtype)
        striped = _striped(sources, places, nnz, dtype) if tiled is None else None
        if tiled is not None:
            return tiled
        if striped is not None:
            return striped, 1.0
    if apart and kept.size == nnz:
        index = np.empty(nnz, np.int64)
        index[target[kept]] = kept
        if symmetric:
            sources, index = _upper(sources, places, index, pattern)
        everything = _side_by_side(sources, dtype)
        recorder.stage = 1  # a compiler would compute coefficients again where they are gathered
        return everything.index_select(0, torch.from_numpy(index).to(device)), 0.0
    everything = _side_by_side(sources, dtype)
    recorder.stage = 1
    if kept.size < target.size:
        everything = everything.index_select(0, torch.from_numpy(kept).to(device))
    values = torch.zeros(nnz, dtype=dtype, device=device)
    return values.index_add(0, torch.from_numpy(target[kept]).to(device), everything), 0.0


def _side_by_side(sources: Sequence[Source], dtype: torch.dtype) -> torch.Tensor:
    flat = [source.full(dtype).reshape(-1) for source in sources]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def _upper(
    sources: Sequence[Source], places: Sequence[Ints], index: Ints, pattern: SparsityPattern
) -> tuple[list[Source], Ints]:
    """Return the sources and index that are left when values below the diagonal are read from their mirror images.

    ``index``: the place of each value in the sources side by side.
    """
    below = np.flatnonzero(pattern.rows > pattern.indices)
    rows, columns = pattern.indices[below], pattern.rows[below]
    index[below] = index[positions(pattern.indptr, pattern.indices, pattern.shape[1], rows, columns)]
    starts = np.concatenate([[0], np.cumsum([place.size for place in places])])
    owner = np.searchsorted(starts, index, side="right") - 1
    used = np.unique(owner)
    shift = np.zeros(len(sources), np.int64)
    shift[used] = starts[used] - np.concatenate([[0], np.cumsum(np.diff(starts)[used])])[:-1]
    return [sources[k] for k in used], index - shift[owner]


def _positions(source: Source, pattern: SparsityPattern, part: bool) -> Ints:
    """Return the place of each coefficient in the values; -1 for nowhere."""
    there = source.columns >= 0
    there &= source.rows >= 0
    everywhere = bool(there.all())
    rows, columns = (source.rows, source.columns) if everywhere else (source.rows[there], source.columns[there])
    found = positions(pattern.indptr, pattern.indices, pattern.shape[1], rows, columns)
    missing = np.flatnonzero(found < 0)
    if missing.size and not part:
        raise MissingEntriesError(int(rows[missing[0]]), int(columns[missing[0]]))
    if everywhere:
        return found
    place = np.full(there.size, -1)
    place[there] = found
    return place


class MissingEntriesError(Exception):
    """The program computes an entry, at ``row`` and ``column``, that the pattern does not have."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__(f"entry ({row}, {column})")
        self.row, self.column = row, column


@dataclass(frozen=True)
class _Block:
    """Coefficients that lie in the values as ``outer`` pieces of length ``inner``, ``stride`` apart, from ``base``."""

    base: int
    outer: int
    stride: int
    inner: int


def _tiled(
    sources: Sequence[Source], places: Sequence[Ints], nnz: int, dtype: torch.dtype
) -> tuple[torch.Tensor, float] | None:
    """Return the values as coefficients side by side, those out of place corrected; None where too many are."""
    blocks = [_block(source, place) for source, place in zip(sources, places, strict=True)]
    if any(block is None for block in blocks):
        return None
    found = [(block, k) for k, block in enumerate(blocks) if block is not None]
    found.sort(key=lambda pair: pair[0].base)
    segments: list[list[tuple[_Block, int]]] = []
    for block, k in found:
        last = segments[-1][0][0] if segments else None
        if (
            last is not None
            and block.base < last.base + last.stride
            and (last.outer, last.stride) == (block.outer, block.stride)
        ):
            segments[-1].append((block, k))
        else:
            segments.append([(block, k)])
    at = 0
    parts, expected = [], [np.empty(0, np.int64)] * len(sources)
    for segment in segments:
        first = segment[0][0]
        column = at
        for block, k in segment:
            if block.base != column:
                return None
            column += block.inner
            expected[k] = (
                block.base + np.arange(block.outer)[:, None] * block.stride + np.arange(block.inner)
            ).reshape(-1)
        if column - at != first.stride and first.outer > 1:
            return None
        pieces = [sources[k].full(dtype).reshape(block.outer, block.inner) for block, k in segment]
        parts.append(_interleaved(pieces))
        at += first.outer * (column - at)
    if at != nnz:
        return None
    values = parts[0] if len(parts) == 1 else torch.cat(parts)
    wrong = [np.flatnonzero(place != want) for place, want in zip(places, expected, strict=True)]
    count = sum(w.size for w in wrong)
    if count > (1 - _MOSTLY) * nnz:
        return None
    if count:
        device = values.device
        written = np.concatenate([want[w] for want, w in zip(expected, wrong, strict=True)])
        moved = values.index_select(0, torch.from_numpy(written).to(device))
        target = np.concatenate([place[w] for place, w in zip(places, wrong, strict=True)])
        values = values.index_copy(0, torch.from_numpy(target).to(device), moved)
    return values, 1 - count / nnz


def _striped(sources: Sequence[Source], places: Sequence[Ints], nnz: int, dtype: torch.dtype) -> torch.Tensor | None:
    """Return the values as slots side by side, cut where rows at an end lack some; None where they lie otherwise.

    Before/after: slots [0, b, d] and [a, c, 0], side by side 0 a b c d 0, of a matrix with values a b c d.
    """
    if len({source.shape for source in sources}) > 1 or sum(place.size for place in places) > _HOLES * nnz:
        return None
    middle = np.array([place[place.size // 2] for place in places])
    order = np.argsort(middle)
    side_by_side = np.stack([places[k] for k in order], 1).reshape(-1)
    kept = np.flatnonzero(side_by_side >= 0)
    if kept.size != nnz or not np.array_equal(side_by_side[kept], np.arange(nnz)):
        return None
    starts = kept[np.flatnonzero(np.diff(kept, prepend=-2) > 1)]
    stops = kept[np.flatnonzero(np.diff(kept, append=side_by_side.size + 2) > 1)] + 1
    if starts.size > _STRIPES:
        return None
    flat = _interleaved([sources[k].full(dtype).reshape(-1, 1) for k in order])
    parts = [flat[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _interleaved(pieces: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return (rows, widths) tensors side by side, flat."""
    if any(piece.shape[1] > 1 for piece in pieces):
        return torch.cat(list(pieces), 1).reshape(-1)
    return torch.stack([piece.reshape(-1) for piece in pieces], 1).reshape(-1)


def _block(source: Source, place: Ints) -> _Block | None:
    """Return how most of the coefficients lie in the values; None where they do not lie evenly."""
    if place.size == 0 or int(place.min()) < 0:
        return None
    few = _few(place.size)
    dims: list[tuple[int, int]] = []  # (length, stride), outermost first
    beyond = place.size
    for size in source.shape:
        beyond, outside = beyond // size, beyond
        if size > 1:
            before = few[few % outside < outside - beyond]
            dims.append((size, _mode(place[before + beyond] - place[before])))
    merged: list[tuple[int, int]] = []
    for size, stride in dims:
        if merged and merged[-1][1] == size * stride:
            merged[-1] = (merged[-1][0] * size, stride)
        else:
            merged.append((size, stride))
    if merged and merged[-1][1] == 1:
        inner = merged.pop()[0]
    else:
        inner = 1
    if len(merged) > 1:
        return None
    outer, stride = merged[0] if merged else (1, inner)
    return _Block(_mode(place[few] - few // inner * stride - few % inner), outer, stride, inner)


def _few(count: int) -> Ints:
    """Return places among ``count``, at random if there are many: they show how most of the others lie."""
    return np.arange(count) if count <= _SAMPLE else np.random.default_rng(0).integers(0, count, _SAMPLE)


def _mode(numbers: Ints) -> int:
    """Return the number that occurs most often."""
    distinct, often = np.unique(numbers, return_counts=True)
    return int(distinct[often.argmax()])
