"""Arrays of rows that share index sets, beside the dense matrices that they stand for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from internals import block_counts, index_dtype, sorted_distinct, transposed_sets
from scipy.sparse import csr_array


@st.composite
def shared_rows(draw):
    """(distinct sets as a 0/1 matrix, the set of each row)."""
    count, n, m = draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(0, 9))
    rows = st.lists(st.integers(0, 1), min_size=n, max_size=n)
    sets = np.array(draw(st.lists(rows, min_size=count, max_size=count)))
    return sets, np.array(draw(st.lists(st.integers(0, count - 1), min_size=m, max_size=m)), dtype=np.int64)


@given(shared_rows())
def test_columns_that_are_in_the_same_rows_share_a_set(drawn):
    sets, row_sets = drawn
    column_sets, indptr, indices = transposed_sets(csr_array(sets), row_sets)
    whole = sets[row_sets]
    assert len(indptr) - 1 == len(np.unique(sets.T, axis=0))
    for column, number in enumerate(column_sets):
        rows = indices[indptr[number] : indptr[number + 1]]
        np.testing.assert_array_equal(rows, np.flatnonzero(whole[:, column]))


def test_columns_with_one_hash_stay_apart(monkeypatch):
    class Zeros:
        def integers(self, low, high, count):
            return np.zeros(count, np.int64)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Zeros())
    column_sets, indptr, indices = transposed_sets(csr_array(np.array([[1, 0], [0, 1]])), np.array([0, 1, 1]))
    rows = [indices[indptr[k] : indptr[k + 1]].tolist() for k in column_sets]
    assert rows == [[0], [1, 2]]


@given(shared_rows(), st.integers(1, 4), st.integers(1, 4))
def test_entries_are_counted_by_block(drawn, height, width):
    sets, row_sets = drawn
    m, n = len(row_sets), sets.shape[1]
    expected = np.zeros((height, width), int)
    for i, j in zip(*np.nonzero(sets[row_sets]), strict=True):
        expected[i * height // m, j * width // n] += 1
    np.testing.assert_array_equal(block_counts(csr_array(sets), row_sets, height, width), expected)


@given(st.lists(st.integers(-5, 5)))
def test_risen_is_what_unique_gives(keys):
    np.testing.assert_array_equal(sorted_distinct(np.array(keys, np.int64)), np.unique(keys))


@pytest.mark.parametrize(("size", "dtype"), [(0, np.int32), (2**31 - 1, np.int32), (2**31, np.int64)])
def test_indices_are_as_short_as_they_can_be(size, dtype):
    assert index_dtype(size) is dtype
