"""Bidirectional colorings: recoverable, no dearer than one side, and at most the published totals."""

import itertools
import sys

import numpy as np
import pytest
import scipy.sparse
from coloring_strategies import patterns
from hypothesis import given
from hypothesis import strategies as st

from torchjac import SparsityPattern, color
from torchjac._coloring.algorithms import numba_kernel
from torchjac._coloring.algorithms.adjacency import bipartite_adjacency
from torchjac._coloring.algorithms.order import ORDERS
from torchjac._coloring.algorithms.peel import peel


@given(patterns(), st.sampled_from([*ORDERS, "auto"]), st.sampled_from(["direct", "substitution"]))
def test_every_bidirectional_coloring_can_be_recovered_from(pattern, order, recovery):
    coloring = color(pattern, "bidirectional", order=order, recovery=recovery)
    assert coloring.verify(pattern)
    assert coloring.num_colors == coloring.num_forward + coloring.num_reverse
    assert coloring.lower_bound <= coloring.num_colors


@given(patterns(), st.sampled_from([0.5, 1.0, 2.5]))
def test_it_costs_no_more_than_one_side_alone(pattern, reverse_cost):
    coloring = color(pattern, "bidirectional", reverse_cost=reverse_cost)
    columns, rows = (color(pattern, side, order="natural").num_colors for side in ("column", "row"))
    assert coloring.num_forward + reverse_cost * coloring.num_reverse <= min(columns, reverse_cost * rows)


@given(patterns(), st.sampled_from([(True, True), (True, False), (False, True)]))
def test_every_stop_of_a_peeling_covers_every_entry(pattern, lines):
    graph, m = bipartite_adjacency(pattern), pattern.shape[0]
    peeling = peel(graph, *lines)
    for stop in peeling.stops(12):
        for side in ("column", "row"):
            colored = set(np.concatenate(peeling.cover(stop, side)).tolist())
            assert all(
                {i, m + j} & colored for i, j in zip(pattern.rows.tolist(), pattern.indices.tolist(), strict=True)
            )


@given(patterns())
def test_the_densest_line_is_peeled_first(pattern):
    peeling = peel(bipartite_adjacency(pattern))
    left = pattern.to_dense().int()
    for v, degree in zip(peeling.sequence.tolist(), peeling.degrees.tolist(), strict=True):
        assert degree == max(int(left.sum(0).max()), int(left.sum(1).max()))
        line = left[v] if v < peeling.num_rows else left[:, v - peeling.num_rows]
        assert int(line.sum()) == degree
        line.zero_()
    assert not left.any()


def test_a_dear_reverse_product_is_avoided():
    wide = SparsityPattern.from_dense(np.ones((2, 5)))
    assert color(wide, "bidirectional", reverse_cost=1.0).num_reverse == 2
    assert color(wide, "bidirectional", reverse_cost=4.0).num_forward == 5


def arrow(n):
    k, zero = np.arange(n), np.zeros(n, int)
    return SparsityPattern.from_coo(np.concatenate([k, zero, k]), np.concatenate([k, k, zero]), (n, n))


@pytest.fixture
def lines_run(monkeypatch):
    """The lines of Python that have run so far, kernels' too."""
    count = itertools.count()

    def trace(frame, event, arg):
        next(count)
        return trace

    monkeypatch.setattr(numba_kernel.kernel, "given", lambda self, work: self.plain)
    before = sys.gettrace()
    sys.settrace(trace)
    yield count
    sys.settrace(before)


@pytest.mark.parametrize("recovery", ["direct", "substitution"])
def test_an_arrow_takes_three_products_in_linear_time(recovery, lines_run):
    def lines_for(n):
        pattern, before = arrow(n), next(lines_run)
        assert color(pattern, "bidirectional", recovery=recovery).num_colors == 3
        return next(lines_run) - before

    assert lines_for(1600) < 5 * lines_for(400)  # quadratic time: 16 times as many


TOTALS = {"can_715": 20, "Harvard500": 26, "ash331": 6, "ash608": 6, "lp_finnis": 14, "n4c6-b15": 2, "D_6": 27}


@pytest.mark.parametrize("name", sorted(TOTALS))
@pytest.mark.parametrize("recovery", ["direct", "substitution"])
def test_totals_are_at_most_those_published(data_dir, name, recovery):
    pattern = SparsityPattern.from_scipy(scipy.sparse.load_npz(data_dir / "matrices" / f"{name}.npz"))
    coloring = color(pattern, "bidirectional", recovery=recovery)
    assert coloring.verify(pattern)
    assert coloring.num_colors <= TOTALS[name]
