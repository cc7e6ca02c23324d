"""Pairs in order and looked up, beside the textbook ways."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from internals import positions, sorted_pairs

from torchjac import SparsityPattern

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), max_size=40)


@given(PAIRS, st.booleans())
def test_pairs_in_order_equal_ones_as_they_come(pairs, far):
    rows, columns = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    columns = columns + 10**9 * far  # too far apart to be counted
    assert sorted_pairs(rows, columns).tolist() == sorted(range(len(pairs)), key=lambda k: (rows[k], columns[k]))


@given(PAIRS, PAIRS)
def test_where_pairs_are_in_a_pattern(entries, asked):
    distinct = sorted(set(entries))
    pattern = SparsityPattern.from_coo([i for i, _ in entries], [j for _, j in entries], (7, 10))
    rows, columns = (np.array([pair[k] for pair in asked], np.int64) for k in (0, 1))
    found = positions(pattern.indptr, pattern.indices, 10, rows, columns)
    assert found.tolist() == [distinct.index(pair) if pair in distinct else -1 for pair in asked]
