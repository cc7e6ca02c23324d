"""Sort pairs of small integers, and look them up: by counting, several times as fast as by comparing."""

from __future__ import annotations

import numpy as np

from ..._matrices.row_sets import IntArray

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]

_SPARSE = 8  # integers to count for each pair, above which counting takes longer


def sorted_pairs(rows: Ints, columns: Ints) -> Ints:
    """Return the places of the pairs (rows[k], columns[k]) in row-major order, equal ones by k.

    >>> import numpy as np
    >>> sorted_pairs(np.array([1, 0, 1]), np.array([0, 3, 0]))
    array([1, 0, 2])
    """
    if rows.size == 0 or max(int(rows.max()), int(columns.max())) > _SPARSE * rows.size:
        return np.lexsort((columns, rows))
    order = _counted(columns)
    return order[_counted(rows[order])]


def _counted(keys: Ints) -> Ints:
    """Return the places of keys in order, equal ones as they come: SciPy transposes a matrix by a counting sort."""
    from scipy.sparse import csr_array

    size = keys.size
    ones = csr_array((np.ones(size, np.int8), keys, np.arange(size + 1)), shape=(size, int(keys.max()) + 1))
    order: Ints = ones.tocsc().indices.astype(np.int64)
    return order


def positions(indptr: IntArray, indices: IntArray, width: int, rows: IntArray, columns: IntArray) -> Ints:
    """Return the place of each pair among the entries of a pattern in CSR form; -1 for one that is not there."""
    from scipy.sparse import csr_matrix

    if rows.size == 0:
        return np.empty(0, np.int64)
    numbers = csr_matrix((np.arange(1, indices.size + 1), indices, indptr), shape=(indptr.size - 1, width))
    found: Ints = np.asarray(numbers[rows, columns]).reshape(-1) - 1
    return found
