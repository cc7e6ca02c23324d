"""A growing table of distinct index sets in CSR, with its main operation: many unions at a time.

Set 0 is empty, set 1 + j is {j}. Ids are positions in the table. Sets are never changed; ``compact`` drops
those that are not in use. All algebra is vectorised; the work of a union is linear in the entries it reads.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .._base.memory_limit import require

Ints = npt.NDArray[np.int64]
Members = npt.NDArray[np.int32 | np.int64]
"""The indices in sets: int32 where n allows it."""

T = TypeVar("T", bound=np.generic)

_SMALL_SETS = 16  # below this mean size, finding equal sets costs more than keeping them twice


_FEW = 10_000  # entries that nobody asks about
_TAKEN = 24  # bytes an entry that is copied out of the table takes: its place, a step, itself
_UNITED = 40  # and that of a boolean product
_LOOKED_UP = 80  # and one that a binary search looks for
_INSTEAD = (
    "sparsity=None for a dense Jacobian, sparsity=a pattern of your own, torchjac.register_rule for an op of your own, "
    "or allow more memory"
)

_LARGE_SETS = 64  # from this size on, a set is asked whether it holds the rest before the union is written out


class SetTable:
    """Index sets over {0, ..., n - 1}."""

    def __init__(self, n: int) -> None:
        self.n = n
        dtype = np.int32 if n <= np.iinfo(np.int32).max else np.int64
        self._indptr = np.concatenate([[0], np.arange(n + 1)]).astype(np.int64)
        self._indices: Members = np.arange(n, dtype=dtype)
        self.size = n + 1

    @property
    def nnz(self) -> int:
        """The number of entries of all sets together."""
        return int(self._indptr[self.size])

    def lengths(self, ids: Ints) -> Ints:
        """Return the number of indices in each set."""
        return self._indptr[ids + 1] - self._indptr[ids]

    def take(self, ids: Ints) -> tuple[Ints, Members]:
        """Return (indptr, indices) of the sets ``ids``, in that order, in CSR."""
        starts = self._indptr[ids]
        lengths = self._indptr[ids + 1] - starts
        indptr = np.zeros(ids.size + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        self._ask(int(indptr[-1]), _TAKEN)
        if ids.size and ids[-1] - ids[0] == ids.size - 1 and _rising(ids):
            return indptr, self._indices[starts[0] : starts[0] + indptr[-1]]
        where = np.repeat(starts - indptr[:-1], lengths)
        where += np.arange(where.size)
        return indptr, self._indices[where]

    def _ask(self, entries: int, each: int) -> None:
        """Raise MemoryLimitError where there is no room to work on so many entries."""
        if entries > _FEW:
            held = self._indptr.nbytes + self._indices.nbytes
            require(entries * each, f"index sets of {entries:,} entries", instead=_INSTEAD, held=held)

    def union(self, a: Ints, b: Ints) -> Ints:
        """Return the elementwise union of two id arrays of one shape (k,)."""
        out = np.where(a == 0, b, a)
        open_ = np.flatnonzero((a != b) & (a != 0) & (b != 0))
        if open_.size == 0:
            return out
        a, b = a[open_], b[open_]
        if _all_distinct(a) or _all_distinct(b):
            out[open_] = self._union_distinct(np.stack([a, b], 1).reshape(-1), np.arange(0, 2 * a.size + 1, 2))
            return out
        keys, inverse = np.unique(a * self.size + b, return_inverse=True)
        pairs = np.stack(np.divmod(keys, self.size), 1).reshape(-1)
        out[open_] = self._union_distinct(pairs, np.arange(0, 2 * keys.size + 1, 2))[inverse]
        return out

    def union_groups(self, ids: Ints, indptr: Ints) -> Ints:
        """Return, for each group ``ids[indptr[g]:indptr[g + 1]]``, the union of its sets: (groups,)."""
        counts = np.diff(indptr)
        out = np.zeros(counts.size, np.int64)
        single = counts == 1
        out[single] = ids[indptr[:-1][single]]
        many = np.flatnonzero(counts > 1)
        if many.size:
            picked = ids if many.size == counts.size else ids[np.repeat(counts > 1, counts)]
            out[many] = self._union_distinct(picked, np.concatenate([[0], np.cumsum(counts[many])]))
        return out

    def _union_distinct(self, ids: Ints, indptr: Ints) -> Ints:
        """Return the unions of distinct groups of two members or more; new sets are appended to the table."""
        largest = _largest_member(ids, indptr, self.lengths(ids))
        open_ = np.flatnonzero(~self._absorbed(ids, indptr, largest))
        if open_.size == 0:
            return largest
        if open_.size < largest.size:
            counts = np.diff(indptr)
            ids = ids[np.repeat(np.isin(np.arange(counts.size), open_), counts)]
            indptr = np.concatenate([[0], np.cumsum(counts[open_])])
        known = largest.copy()
        known[open_] = self._union_open(ids, indptr, largest[open_])
        return known

    def _union_open(self, ids: Ints, indptr: Ints, largest: Ints) -> Ints:
        """Return the unions of groups whose largest member may not hold all others."""
        new_indptr, new_indices = self._product(ids, indptr)
        sizes = np.diff(new_indptr)
        known = largest.copy()  # a union as large as its largest member is that member
        fresh = np.flatnonzero(self.lengths(largest) != sizes)
        if fresh.size == 0:
            return known
        if fresh.size < sizes.size:
            keep = np.repeat(self.lengths(largest) != sizes, sizes)
            new_indices = new_indices[keep]
            new_indptr = np.concatenate([[0], np.cumsum(sizes[fresh])])
        known[fresh] = self._append(*_deduplicated(new_indptr, new_indices))
        return known

    def _absorbed(self, ids: Ints, indptr: Ints, largest: Ints) -> npt.NDArray[np.bool_]:
        """Whether each group is its largest member: looked up where that is much larger than the rest, (groups,).

        Without it, one dense set united with each of n single ones would be written out n times.
        """
        lengths, big = self.lengths(ids), self.lengths(largest)
        if not (big >= _LARGE_SETS).any():
            return np.zeros(largest.size, bool)
        rest = np.add.reduceat(lengths, indptr[:-1]) - big
        group = np.repeat(np.arange(largest.size), np.diff(indptr))
        asked = (big >= _LARGE_SETS) & (big >= 8 * rest)
        member = asked[group] & (ids != largest[group])
        self._ask(int(lengths[member].sum()), _LOOKED_UP)
        counts, wanted = self.take(ids[member])
        query = np.repeat(group[member], np.diff(counts))
        missing = ~self._holds(largest[query], wanted)
        asked[query[missing]] = False
        return asked

    def _holds(self, sets: Ints, wanted: Members) -> npt.NDArray[np.bool_]:
        """Whether ``wanted[k]`` is in the set ``sets[k]``: a binary search of all at once."""
        low, high = self._indptr[sets], self._indptr[sets + 1]
        end = high.copy()
        while (low < high).any():
            middle = (low + high) // 2
            below = (low < high) & (self._indices[np.minimum(middle, self.nnz - 1)] < wanted)
            low, high = np.where(below, middle + 1, low), np.where(below | (low >= high), high, middle)
        found: npt.NDArray[np.bool_] = (low < end) & (self._indices[np.minimum(low, self.nnz - 1)] == wanted)
        return found

    def _product(self, ids: Ints, indptr: Ints) -> tuple[Ints, Members]:
        """Return the boolean product (groups x sets) @ (sets x n), in CSR with sorted indices."""
        from scipy.sparse import csr_array

        self._ask(int(self.lengths(ids).sum()), _UNITED)
        counts, flat = self.take(ids)
        if np.may_share_memory(flat, self._indices):  # a part of the table, and SciPy sorts and shortens in place
            flat = flat.copy()
        bounds = counts[indptr]
        if indptr.size == 2:  # one group: sorting its members would cost more than a mask
            present = np.zeros(self.n, bool)
            present[flat] = True
            members = np.flatnonzero(present).astype(flat.dtype)
            return np.array([0, members.size]), members
        index_type = np.int32 if max(flat.size, self.n) < np.iinfo(np.int32).max else np.int64
        groups = csr_array(
            (np.ones(flat.size, bool), flat.astype(index_type, copy=False), bounds.astype(index_type)),
            shape=(indptr.size - 1, self.n),
        )
        groups.sum_duplicates()
        return groups.indptr.astype(np.int64), groups.indices

    def _append(self, indptr: Ints, indices: Members, inverse: Ints | None) -> Ints:
        first, old, count = self.size, self.nnz, indptr.size - 1
        self._ask(2 * (old + indices.size), self._indices.itemsize)
        self._indptr = _room(self._indptr, first + 1, count)
        self._indices = _room(self._indices, old, indices.size)
        self._indptr[first + 1 : first + 1 + count] = old + indptr[1:]
        self._indices[old : old + indices.size] = indices
        self.size += count
        return np.arange(first, first + count) if inverse is None else first + inverse

    def compact(self, used: Ints) -> Ints:
        """Keep only the sets ``used``, the empty one and the single ones; return old id -> new id."""
        keep = np.zeros(self.size, bool)
        keep[: self.n + 1] = True
        keep[used] = True
        ids = np.flatnonzero(keep)
        indptr, indices = self.take(ids)
        renumbered: Ints = np.cumsum(keep) - 1
        self._indptr, self._indices, self.size = indptr, indices.copy(), ids.size
        return renumbered


def _largest_member(ids: Ints, indptr: Ints, lengths: Ints) -> Ints:
    width = indptr[1] - indptr[0]
    if indptr[-1] == width * (indptr.size - 1) and (np.diff(indptr) == width).all():
        shaped = lengths.reshape(-1, width)
        members: Ints = ids.reshape(-1, width)[np.arange(shaped.shape[0]), shaped.argmax(1)]
        return members
    top = np.maximum.reduceat(lengths, indptr[:-1])
    hit = np.flatnonzero(lengths == np.repeat(top, np.diff(indptr)))
    group = np.searchsorted(indptr, hit, side="right") - 1
    out = np.empty(indptr.size - 1, np.int64)
    out[group[::-1]] = ids[hit[::-1]]
    return out


def _deduplicated(indptr: Ints, indices: Members) -> tuple[Ints, Members, Ints | None]:
    """Return the distinct sets among those given, and which of them each was; exact: equal hashes are compared."""
    count = indptr.size - 1
    if count == 1 or indices.size < _SMALL_SETS * count:
        return indptr, indices, None
    sizes = np.diff(indptr)
    hashes = np.add.reduceat(_mix(indices), indptr[:-1])
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    if first.size == count:
        return indptr, indices, None
    representative = first[inverse]
    doubled = np.flatnonzero(representative != np.arange(count))
    same = sizes[doubled] == sizes[representative[doubled]]
    doubled = doubled[same]
    shift = np.repeat(indptr[representative[doubled]] - indptr[doubled], sizes[doubled])
    place = np.repeat(indptr[doubled] - np.concatenate([[0], np.cumsum(sizes[doubled])[:-1]]), sizes[doubled])
    place += np.arange(place.size)
    equal = indices[place] == indices[place + shift]
    if same.all() and equal.all():
        keep = np.zeros(count, bool)
        keep[first] = True
        kept_indices = indices[np.repeat(keep, sizes)]
        kept_indptr = np.concatenate([[0], np.cumsum(sizes[keep])])
        rank = np.cumsum(keep) - 1
        return kept_indptr, kept_indices, rank[representative]
    return indptr, indices, None  # two different sets with one hash: keep all, which is right, only larger


def _mix(values: Members) -> npt.NDArray[np.uint64]:
    """Return hashes by splitmix64 (Steele, Lea, Flood 2014): their sums tell sets apart."""
    x = values.astype(np.uint64) + np.uint64(1)
    x *= np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def _room(array: npt.NDArray[T], used: int, more: int) -> npt.NDArray[T]:
    if used + more <= array.size:
        return array
    larger = np.empty(max(used + more, 2 * array.size), array.dtype)
    larger[:used] = array[:used]
    return larger


def _rising(ids: Ints) -> bool:
    return bool((np.diff(ids) == 1).all())


def _all_distinct(ids: Ints) -> bool:
    low = int(ids.min())
    seen = np.zeros(int(ids.max()) - low + 1, bool) if ids.max() - low < 4 * ids.size + 1024 else None
    if seen is None:
        return bool((np.diff(ids) > 0).all())
    seen[ids - low] = True
    return int(np.count_nonzero(seen)) == ids.size
