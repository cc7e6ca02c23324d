"""Set algebra on ids, against Python sets."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from internals import IndexSets, SetTable, Window

N = 200
groups = st.lists(
    st.lists(st.sets(st.integers(0, N - 1), max_size=150), min_size=0, max_size=4), min_size=1, max_size=6
)


def of(table: SetTable, i: int) -> frozenset[int]:
    _, indices = table.take(np.array([i]))
    assert (np.diff(indices) > 0).all()
    return frozenset(indices.tolist())


def make(sets: IndexSets, members: set[int]) -> int:
    ids = np.array(sorted(members)) + 1
    return int(sets.table.union_groups(ids, np.array([0, ids.size]))[0]) if members else 0


@given(groups)
def test_union_of_groups(groups):
    sets = IndexSets(N)
    ids = [[make(sets, s) for s in group] for group in groups]
    indptr = np.cumsum([0, *map(len, ids)])
    flat = np.array([i for group in ids for i in group], dtype=np.int64)
    out = sets.table.union_groups(flat, indptr)
    assert [of(sets.table, i) for i in out] == [frozenset().union(*group) for group in groups]


@given(st.lists(st.tuples(st.sets(st.integers(0, N - 1)), st.sets(st.integers(0, 9))), min_size=1, max_size=8))
def test_elementwise_union(pairs):
    sets = IndexSets(N)
    a, b = (torch.tensor([make(sets, p[k]) for p in pairs]) for k in (0, 1))
    out = sets.union(a, b)
    assert [of(sets.table, int(i)) for i in out] == [frozenset(p | q) for p, q in pairs]
    repeated = sets.union(a.repeat(3), b.repeat(3))
    assert [of(sets.table, int(i)) for i in repeated] == 3 * [frozenset(p | q) for p, q in pairs]


@given(st.integers(1, 9), st.sampled_from(["prefix", "suffix", "all", "same"]))
def test_mixing_along_a_dimension(n, along):
    sets = IndexSets(2 * n)
    ids = torch.arange(1, 2 * n + 1).reshape(2, n)
    reach = {
        "prefix": lambda k: range(k + 1),
        "suffix": lambda k: range(k, n),
        "all": lambda k: range(n),
        "same": lambda k: [k],
    }
    out = sets.mix(ids, 1, along)
    for row in range(2):
        assert [of(sets.table, int(i)) for i in out[row]] == [
            frozenset(row * n + p for p in reach[along](k)) for k in range(n)
        ]


@given(st.lists(st.lists(st.integers(0, 5), max_size=5, unique=True), min_size=1, max_size=7))
def test_windows_and_their_transpose(windows):
    sets = IndexSets(6)
    out = [o for o, places in enumerate(windows) for _ in places]
    window = Window.of_pairs(
        torch.tensor(out, dtype=torch.int64),
        torch.tensor([p for w in windows for p in w], dtype=torch.int64),
        len(windows),
    )
    ids = sets.mix(torch.arange(1, 7), 0, window)
    assert [of(sets.table, int(i)) for i in ids] == [frozenset(w) for w in windows]
    back = window.transposed(6)
    assert {(int(o), int(p)) for o, p in zip(back.out, back.places, strict=True)} == {
        (p, o) for o, w in enumerate(windows) for p in w
    }


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=12))
def test_collecting(target):
    sets = IndexSets(len(target))
    out = sets.collect(torch.arange(1, len(target) + 1), torch.tensor(target), 5)
    assert [of(sets.table, int(i)) for i in out] == [
        frozenset(k for k, t in enumerate(target) if t == p) for p in range(5)
    ]


def test_tidying_keeps_what_is_alive():
    sets = IndexSets(50)
    sets._tidy_at = 0
    alive = sets.mix(torch.arange(1, 51), 0, "prefix")
    sets.mix(torch.arange(1, 51), 0, "suffix")
    before, size = [of(sets.table, int(i)) for i in alive], sets.table.size
    sets.tidy(lambda: [alive])
    assert [of(sets.table, int(i)) for i in alive] == before
    assert sets.table.size < size


def test_equal_sets_of_one_union_become_one():
    sets = IndexSets(100)
    left = sets.mix(torch.arange(1, 101), 0, "prefix")
    whole = sets.union(left[:-1], sets.mix(torch.arange(1, 101), 0, "suffix")[1:])
    assert whole.unique().numel() == 1


def test_a_union_of_neighbours_in_the_table_leaves_them_as_they_are():
    table = SetTable(6)
    low, high = np.array([1, 2, 3]), np.array([4, 5, 6])
    four = table.union_groups(np.concatenate([low, low, high, high]), np.arange(0, 13, 3))
    assert (np.diff(four) == 1).all()  # side by side
    table.union_groups(four, np.array([0, 2, 4]))
    assert [of(table, i) for i in four] == [frozenset({0, 1, 2})] * 2 + [frozenset({3, 4, 5})] * 2
