"""Ranges of products: all of them, in order, and no cut has a faster slowest rank."""

from __future__ import annotations

from itertools import combinations_with_replacement, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from internals import UnitCost, cut, even, pieces

SIDES = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from([0.0, 1.0, 4.0]), st.sampled_from([0.5, 1.0, 3.0])),
    min_size=1,
    max_size=2,
)


def slowest(counts, costs, speeds, bounds):
    """The textbook definition."""
    times = []
    for speed, (a, b) in zip(speeds, pairwise(bounds), strict=True):
        times.append(sum(cost.of(y - x) for cost, (x, y) in zip(costs, pieces(counts, a, b), strict=True)) / speed)
    return max(times)


@given(SIDES, st.lists(st.sampled_from([1.0, 2.0, 4.0]), min_size=1, max_size=3))
def test_no_cut_is_faster(sides, speeds):
    counts, costs = [c for c, _, _ in sides], [UnitCost(fixed, each) for _, fixed, each in sides]
    total, bounds = sum(counts), cut(counts, costs, speeds)
    assert bounds[0] == 0
    assert bounds[-1] == total
    assert all(a <= b for a, b in pairwise(bounds))
    every = ([0, *inner, total] for inner in combinations_with_replacement(range(total + 1), len(speeds) - 1))
    best = min(slowest(counts, costs, speeds, other) for other in every)
    assert slowest(counts, costs, speeds, bounds) <= best * (1 + 1e-6)


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 5, 7, 100])
def test_products_of_one_cost_are_cut_as_rows_are(count, ranks):
    """So that dense rows stay where they are computed."""
    assert cut([count], [UnitCost(1e-4, 3e-5)], [1.0] * ranks) == even(count, ranks) or count == 0


def test_small_differences_in_speed_are_noise():
    assert cut([8], [UnitCost(0, 1)], [1.0, 1.3]) == [0, 4, 8]
    assert cut([9], [UnitCost(0, 1)], [1.0, 2.0]) == [0, 3, 9]
