"""Column and row colorings against the definition."""

import numpy as np
import pytest
from coloring_strategies import distance2_neighbors, patterns
from hypothesis import given, settings
from hypothesis import strategies as st

from torchjac import SparsityPattern, color
from torchjac._coloring.algorithms.distance2 import color_distance2, color_distance2_by_definition
from torchjac._coloring.algorithms.graph import column_graph
from torchjac._coloring.algorithms.order import ORDERS
from torchjac._coloring.color import color_best


@given(patterns(), st.sampled_from(["column", "row"]), st.sampled_from([*ORDERS, "auto"]))
def test_every_coloring_meets_the_definition(pattern, partition, order):
    coloring = color(pattern, partition, order=order)
    seen = distance2_neighbors(pattern if partition == "column" else pattern.T)
    assert all(coloring.colors[v] != coloring.colors[u] for v, near in enumerate(seen) for u in near)
    assert coloring.verify(pattern)
    assert coloring.lower_bound <= coloring.num_colors == len(set(coloring.colors) - {-1})


@given(patterns(), st.randoms(use_true_random=False))
def test_first_fit_gives_the_colors_of_the_textbook(pattern, random):
    graph = column_graph(pattern)
    order = graph.vertices.copy()
    random.shuffle(order)
    nets = [row.nonzero()[0].tolist() for row in pattern.to_dense().numpy()]
    expected = color_distance2_by_definition(nets, order.tolist())
    colors = color_distance2(graph, order)
    assert {v: c for v, c in enumerate(colors) if c >= 0} == expected


def test_more_colors_than_bits_in_a_word():
    pattern = SparsityPattern.from_dense(np.ones((3, 200)))
    assert color(pattern, "column", order="natural").colors.tolist() == list(range(200))


def test_rows_with_one_index_set_are_one_net():
    pattern = SparsityPattern((1000, 4), np.zeros(1000, int), np.array([0, 2, 4]), np.array([0, 1, 2, 3]))
    assert column_graph(pattern).num_nets == 1
    assert color(pattern).colors.tolist() == [0, 1, -1, -1]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (3, 3)])
def test_without_entries_there_is_nothing_to_color(shape):
    coloring = color(SparsityPattern.from_coo([], [], shape))
    assert coloring.num_colors == coloring.lower_bound == 0
    assert coloring.colors.tolist() == [-1] * shape[1]


@settings(max_examples=50)
@given(patterns(), st.sampled_from([0.4, 1.0, 3.0]))
def test_the_best_side_is_no_dearer_than_either(pattern, reverse_cost):
    best = color_best(pattern, order="natural", reverse_cost=reverse_cost)
    column, row = (color(pattern, side, order="natural").num_colors for side in ("column", "row"))
    unit = 1.0 if best.partition == "column" else reverse_cost
    assert best.num_colors * unit == pytest.approx(min(column, row * reverse_cost))


def test_a_side_is_given_up_before_it_is_colored():
    bad = np.zeros((2, 50_000))
    bad[0] = 1
    graph = column_graph(SparsityPattern.from_dense(bad))
    assert color_distance2(graph, graph.vertices, limit=2) is None
    assert color_best(bad).num_colors == 1
