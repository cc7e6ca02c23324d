"""The reading that keeps index sets: an id is the number of a set in a ``SetTable``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch

from .._base.memory_limit import require
from .._tangent.relations import Along, Ids, Window
from .set_table import Ints, SetTable

_PLACED = 24  # bytes for each place that an output reads
_TIDY_AT = 4_000_000  # entries of the table before the first look for sets that are not in use


class IndexSets:
    """A ``Reading`` of index sets over {0, ..., n - 1}."""

    curious = False

    def __init__(self, n: int) -> None:
        self.table = SetTable(n)
        self._tidy_at = max(_TIDY_AT, 4 * n)

    def tidy(self, live: Callable[[], list[Ids]]) -> None:
        """Drop the sets that no tensor refers to, once they may fill most of the table; ids change in place."""
        if self.table.nnz < self._tidy_at:
            return
        tensors = live()
        used = np.zeros(self.table.size, bool)
        for ids in tensors:
            used[ids.numpy()] = True
        renumbered = torch.from_numpy(self.table.compact(np.flatnonzero(used)))
        for ids in tensors:
            ids.copy_(renumbered[ids])
        self._tidy_at = max(self._tidy_at, 3 * self.table.nnz)

    def arrive(self, op: str, line: str, before: list[Ids], ids: Ids) -> Ids:
        """Return ``ids``: an index set does not remember ops."""
        return ids

    def entries(self, ids: Ids) -> int:
        """Return the number of indices in all sets together."""
        return int(self.table.lengths(_flat(ids)).sum())

    def union(self, a: Ids, b: Ids) -> Ids:
        if a.shape != b.shape:
            a, b = torch.broadcast_tensors(a, b)
        if a is b or _same_memory(a, b):
            return a
        a, b, shape, expanded = _shrink(a, b)
        out = self.table.union(_flat(a), _flat(b))
        return torch.from_numpy(out).reshape(shape).expand(expanded)

    def reduce(self, ids: Ids, dims: Sequence[int]) -> Ids:
        gone = sorted({d % ids.dim() for d in dims})
        # a dimension of stride 0 holds one number over and over
        ids = ids[tuple(slice(0, 1) if d in gone and ids.stride(d) == 0 else slice(None) for d in range(ids.dim()))]
        kept = [d for d in range(ids.dim()) if d not in gone]
        shape = [1 if d in gone else ids.shape[d] for d in range(ids.dim())]
        rows = ids.permute([*kept, *gone]).reshape(int(np.prod([ids.shape[d] for d in kept])), -1)
        return torch.from_numpy(self._union_rows(rows.numpy())).reshape(shape)

    def mix(self, ids: Ids, dim: int, along: Along) -> Ids:
        if along == "same":
            return ids
        if along == "all":
            return self.reduce(ids, (dim,)).expand(ids.shape)
        ids = ids.movedim(dim, -1)
        if isinstance(along, Window):
            out = self._through(ids, along)
        else:
            out = self._scan(ids.flip(-1)).flip(-1) if along == "suffix" else self._scan(ids)
        return out.movedim(-1, dim)

    def collect(self, ids: Ids, target: torch.Tensor, size: int) -> Ids:
        source, place = _flat(ids), _flat(target)
        keep = (place >= 0) & (source != 0)
        source, place = source[keep], place[keep]
        order = np.argsort(place, kind="stable")
        counts = np.bincount(place, minlength=size)
        return torch.from_numpy(self.table.union_groups(source[order], np.concatenate([[0], np.cumsum(counts)])))

    def _through(self, ids: Ids, window: Window) -> Ids:
        """Return, for (..., in_len) ids, (..., out_len): the union over each output's places."""
        counts = window.starts.diff()
        out_len = counts.numel()
        if window.places.numel() == 0:
            return ids.new_zeros((*ids.shape[:-1], out_len))
        width = int(counts.max())
        read = ids.shape[:-1].numel() * min(out_len * width, 4 * window.places.numel())
        require(_PLACED * read, f"{read:,} places that are read", instead="the op by slices, or sparsity=None")
        if out_len * width <= 4 * window.places.numel():  # nearly regular: one row for every output
            slot = torch.arange(window.places.numel()) - window.starts[window.out]
            positions = torch.full((out_len, width), ids.shape[-1])
            positions[window.out, slot] = window.places
            picked = torch.cat([ids, ids.new_zeros((*ids.shape[:-1], 1))], -1)[..., positions]
            rows = self._union_rows(picked.reshape(-1, width).numpy())
            return torch.from_numpy(rows).reshape(*ids.shape[:-1], out_len)
        batch = ids.reshape(-1, ids.shape[-1])[:, window.places]
        starts = window.starts.numpy()
        shifts = np.arange(batch.shape[0])[:, None] * window.places.numel()
        indptr = np.append((starts[None, :-1] + shifts).reshape(-1), batch.numel())
        return torch.from_numpy(self.table.union_groups(_flat(batch), indptr)).reshape(*ids.shape[:-1], out_len)

    def _scan(self, ids: Ids) -> Ids:
        """Inclusive prefix union along the last dimension, by doubling (Hillis and Steele 1986)."""
        out, step = ids, 1
        while step < ids.shape[-1]:
            out = torch.cat([out[..., :step], self.union(out[..., step:], out[..., :-step])], -1)
            step *= 2
        return out

    def _union_rows(self, rows: Ints) -> Ints:
        """The union of each row of an (r, k) array of ids: (r,)."""
        count, width = rows.shape
        if width == 0 or count == 0:
            return np.zeros(count, np.int64)
        if width == 1 or bool((rows[:, 1:] == rows[:, :1]).all()):
            return np.ascontiguousarray(rows[:, 0])
        if width == 2:
            return self.table.union(rows[:, 0], rows[:, 1])
        distinct, inverse = _distinct_rows(rows)
        if distinct.shape[0] == 1:
            distinct = np.unique(distinct)[None, :]
        used = distinct != 0
        indptr = np.concatenate([[0], np.cumsum(used.sum(1))])
        return self.table.union_groups(distinct[used], indptr)[inverse]


def _same_memory(a: Ids, b: Ids) -> bool:
    return a.data_ptr() == b.data_ptr() and a.stride() == b.stride()


def _shrink(a: Ids, b: Ids) -> tuple[Ids, Ids, tuple[int, ...], torch.Size]:
    """Leave out the dimensions along which both repeat one number: (a, b, their shape, the shape to expand to)."""
    cut = tuple(slice(0, 1) if p == q == 0 else slice(None) for p, q in zip(a.stride(), b.stride(), strict=True))
    small_a, small_b = a[cut], b[cut]
    return small_a, small_b, tuple(small_a.shape), a.shape


def _flat(ids: torch.Tensor) -> Ints:
    flat: Ints = ids.reshape(-1).numpy()
    return flat


def _distinct_rows(rows: Ints) -> tuple[Ints, Ints]:
    """Return (the distinct rows, the number of its distinct row for each row), exact."""
    if rows.shape[0] == 1:
        return rows, np.zeros(1, np.int64)
    weights = np.fromiter(itertools.accumulate(itertools.repeat(0x9E3779B97F4A7C15, rows.shape[1]), _step), np.uint64)
    with np.errstate(over="ignore"):
        hashes = (rows.astype(np.uint64) * weights).sum(1, dtype=np.uint64)
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    if first.size == rows.shape[0]:
        return rows, np.arange(first.size)
    distinct = rows[first]
    if not np.array_equal(distinct[inverse], rows):  # two different rows with one hash
        distinct, inverse = np.unique(rows, axis=0, return_inverse=True)
    return distinct, inverse


def _step(weight: int, factor: int) -> int:
    return (weight * factor + 1) % 2**64 | 1
