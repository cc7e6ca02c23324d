"""Index maps and what is computed from them, against definitions written out."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from torchjac._accumulation.coefficients.compaction import distinct_sorted
from torchjac._accumulation.coefficients.index_map import IndexMap

ids = arrays.arrays(np.int64, st.tuples(st.integers(1, 19), st.integers(0, 5)), elements=st.integers(0, 4))


@settings(deadline=None, max_examples=60)
@given(ids)
def test_the_distinct_inputs_of_each_element_in_order(given_ids):
    got = distinct_sorted(list(given_ids))
    columns = [sorted(set(column) - {0}) for column in given_ids.T.tolist()]
    most = max(map(len, columns), default=0)
    assert [row.tolist() for row in got] == [[c[k] if k < len(c) else 0 for c in columns] for k in range(most)]


def test_maps_that_repeat_are_compared_by_content():
    row = torch.tensor([3, 0, 1])
    wide, copied = IndexMap(row).broadcast(torch.Size((4, 3))), IndexMap(row.expand(4, 3).clone())
    other = IndexMap(torch.tensor([0, 2, 0]).expand(4, 3))
    assert wide == copied
    assert hash(wide) == hash(copied)
    assert wide != other
    assert wide.disjoint(other)
    assert torch.equal(wide.joined(other).ids, wide.ids + other.ids)
    assert not wide.disjoint(copied)
    assert (wide.full, wide.empty, wide.joined(other).full) == (False, False, True)
    assert IndexMap(torch.zeros((), dtype=torch.int64)).empty
