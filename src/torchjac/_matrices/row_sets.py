"""Computations on rows that share index sets: ``sets`` has the distinct ones, ``row_sets`` the number of each row's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_array

IntArray = npt.NDArray[np.integer[Any]]
"""An array of integers of any width."""


def block_counts(sets: csr_array, row_sets: IntArray, height: int, width: int) -> npt.NDArray[np.int64]:
    """The number of entries in each of height x width blocks, computed without the rows that share a set."""
    from scipy.sparse import csr_array

    (count, n), m = sets.shape, row_sets.size
    blocks = np.arange(m, dtype=np.int64) * height // m
    rows = csr_array((np.ones(m, np.int64), (blocks, row_sets)), shape=(height, count))
    columns = np.arange(n, dtype=np.int64) * width // n
    merge = csr_array((np.ones(n, np.int64), (np.arange(n), columns)), shape=(n, width))
    counts: npt.NDArray[np.int64] = (rows @ (sets @ merge)).toarray()
    return counts


def transposed_sets(sets: csr_array, row_sets: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """The transposed pattern as (set of each column, indptr, indices); columns that are in the same sets share one."""
    from scipy.sparse import csr_array

    count, n = sets.shape
    members = sets.T.tocsr()  # (n, sets)
    weights = np.random.default_rng(0).integers(1, 2**62, count)
    _, first, column_sets = np.unique(members @ weights, return_index=True, return_inverse=True)
    distinct = members[first]
    again = distinct[column_sets]
    if not (np.array_equal(again.indptr, members.indptr) and np.array_equal(again.indices, members.indices)):
        distinct, column_sets = members, np.arange(n)  # two different columns with one hash: keep all apart
    rows = csr_array(
        (np.ones(row_sets.size, np.int64), (row_sets, np.arange(row_sets.size))), shape=(count, row_sets.size)
    )
    flipped = distinct @ rows
    flipped.sort_indices()
    return column_sets, flipped.indptr.astype(np.int64), flipped.indices


def sorted_distinct(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The distinct keys in rising order; ``np.unique`` hashes them, which takes ten times as long as a sort."""
    if (keys[1:] > keys[:-1]).all():
        return keys
    keys = np.sort(keys)
    distinct: npt.NDArray[np.int64] = keys[np.append(True, keys[1:] > keys[:-1])]
    return distinct


def index_dtype(size: int) -> type[np.int32] | type[np.int64]:
    """The narrowest dtype that can index ``size`` places."""
    return np.int32 if size < 2**31 else np.int64
