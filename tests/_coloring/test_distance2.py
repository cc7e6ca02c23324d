"""Column and row colorings against the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchjac._coloring import color, color_best
from torchjac._coloring.distance2 import color_distance2, color_distance2_by_definition
from torchjac._coloring.graph import column_graph
from torchjac._pattern import SparsityPattern


@st.composite
def patterns(draw, largest=12):
    m, n = draw(st.integers(0, largest)), draw(st.integers(0, largest))
    cells = draw(st.sets(st.integers(0, max(m * n - 1, 0)), max_size=40)) if m * n else set()
    return SparsityPattern.from_coo([c // n for c in cells], [c % n for c in cells], (m, n))


@given(patterns(), st.sampled_from(["column", "row"]), st.sampled_from(["natural", "largest-first", "smallest-last"]))
def test_every_coloring_meets_the_definition(pattern, partition, order):
    coloring = color(pattern, partition, order=order)
    assert coloring.verify(pattern)
    assert coloring.num_colors >= coloring.lower_bound


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
