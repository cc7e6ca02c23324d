"""What order="auto" is made of: lattices, twins, iterated greedy, neutral colors; when it stops."""

from types import SimpleNamespace

import numpy as np
import pytest
from coloring_strategies import patterns
from hypothesis import given
from hypothesis import strategies as st

from torchjac import OptionError, SparsityPattern, color
from torchjac._coloring.algorithms import search
from torchjac._coloring.algorithms.distance2 import color_distance2
from torchjac._coloring.algorithms.graph import column_graph
from torchjac._coloring.algorithms.iterated import by_classes
from torchjac._coloring.algorithms.lattice import Grid, lattice_colorings
from torchjac._coloring.algorithms.neutral_colors import needed_products, renumber
from torchjac._coloring.algorithms.quotient_graph import quotient
from torchjac._coloring.algorithms.search import Search, count
from torchjac._coloring.colors import ColumnColors
from torchjac._coloring.equations import Equations


@given(patterns(), st.integers(0, 5))
def test_coloring_by_classes_never_gets_worse(pattern, step):
    graph = column_graph(pattern)
    colors = color_distance2(graph, graph.vertices)
    again = color_distance2(graph, by_classes(graph.vertices, colors, step))
    assert count(again) <= count(colors)


@given(patterns(largest=5), st.lists(st.integers(1, 3), min_size=5, max_size=5), st.randoms(use_true_random=False))
def test_colors_of_merged_twins_expand_to_a_coloring(pattern, copies, random):
    columns = np.repeat(np.arange(pattern.shape[1]), copies[: pattern.shape[1]])
    random.shuffle(columns)
    doubled = SparsityPattern.from_dense(pattern.to_dense()[:, columns.tolist()])
    graph = column_graph(doubled)
    merged = quotient(graph)
    assert merged.graph.num_vertices <= pattern.shape[1] + 1  # all empty columns are twins
    colors = merged.expand(color_distance2(merged.graph, merged.graph.vertices))
    assert ColumnColors(colors=colors, num_colors=count(colors), lower_bound=0, order="", shape=doubled.shape).verify(
        doubled
    )


def test_a_lattice_is_found_from_the_pattern_alone():
    rows, columns = np.indices((40, 30)).reshape(2, -1)
    points = rows * 30 + columns
    steps = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
    ok = [(rows + a >= 0) & (rows + a < 40) & (columns + b >= 0) & (columns + b < 30) for a, b in steps]
    pattern = SparsityPattern.from_coo(
        np.concatenate([points[k] for k in ok]),
        np.concatenate([(points + 30 * a + b)[k] for k, (a, b) in zip(ok, steps, strict=True)]),
        (1200, 1200),
    )
    colors = next(lattice_colorings(column_graph(pattern).by_net, 1200, 5, 6))
    assert ColumnColors(colors=colors, num_colors=5, lower_bound=5, order="", shape=(1200, 1200)).verify(pattern)
    assert "goldfarb1984" in color(pattern).citation()


def test_a_grid_colors_by_its_digits():
    grid = Grid((1, 3), (3, 4), (False, False))
    expected = [(2 * j + i) % 5 for i in range(4) for j in range(3)]
    assert grid.color(np.array([2, 1]), 5).tolist() == expected


def test_of_two_products_that_would_do_the_cheaper_stays():
    places = np.array([[0, 1], [2, 3]])  # two unknowns, alone in a product of each side
    equations = Equations(np.arange(2), np.arange(2), places, 4)
    product = np.array([[0, 0], [1, 1]])
    assert needed_products(equations, product, np.array([1.0, 2.0])).tolist() == [True, False]
    assert needed_products(equations, product, np.array([2.0, 1.0])).tolist() == [False, True]


def test_colors_close_the_gaps_of_those_that_go():
    assert renumber(np.array([0, 2, -1, 1], np.int32), np.array([True, False, True])).tolist() == [0, 1, -1, -1]


def test_a_search_stops_at_its_bound():
    tried = Search(bound=2)
    assert tried.offer("first", 1.0, lambda limit: np.array([0, 1], np.int32))
    assert not tried.offer("second", 1.0, lambda limit: pytest.fail("nothing is better than the bound"))


def test_a_search_stops_at_its_budget():
    tried = Search(bound=1, budget=5.0)
    assert tried.offer("first", 100.0, lambda limit: np.array([0, 1], np.int32))
    assert not tried.offer("second", 1.0, lambda limit: pytest.fail("there is nothing left to spend"))


def test_a_search_with_a_time_limit_stops_there_whatever_it_has_spent(monkeypatch):
    now = 0.0
    monkeypatch.setattr(search, "time", SimpleNamespace(perf_counter=lambda: now))
    tried = Search(bound=1, budget=5.0, seconds=1.0)
    assert tried.offer("first", 100.0, lambda limit: np.array([0, 1, 2], np.int32))
    assert tried.offer("second", 100.0, lambda limit: np.array([0, 1, 1], np.int32))
    now = 1.0
    assert not tried.offer("third", 1.0, lambda limit: pytest.fail("there is no time left"))


def test_seconds_limit_the_search_and_are_used(monkeypatch):
    ticks = iter(np.arange(0.0, 2.0, 2**-7))  # at every look at the clock; a search without end runs out of them
    monkeypatch.setattr(search, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    columns = np.random.default_rng(0).integers(0, 1000, (1000, 10))
    pattern = SparsityPattern.from_coo(np.repeat(np.arange(1000), 10), columns.ravel(), (1000, 1000))
    usual, first = color(pattern), color(pattern, order="natural")
    assert color(pattern, seconds=0.0).colors.tolist() == first.colors.tolist()
    start = next(ticks)
    assert color(pattern, seconds=1.0).num_colors <= usual.num_colors < first.num_colors
    assert 1.0 <= next(ticks) - start < 1.1


@pytest.mark.parametrize("partition", ["column", "row", "symmetric", "bidirectional"])
def test_the_same_pattern_gets_the_same_colors(partition):
    rng = np.random.default_rng(3)
    dense = rng.random((60, 60)) < 0.05
    first, second = (color(dense | dense.T, partition) for _ in range(2))
    for name in ("colors", "column_colors", "row_colors"):
        if hasattr(first, name):
            assert getattr(first, name).tolist() == getattr(second, name).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "fastest"}, "order='fastest' is not an option"),
        ({"recovery": "magic"}, "recovery='magic' is not an option"),
        ({"partition": "diagonal"}, "partition='diagonal' is not an option"),
        ({"seconds": -1}, "seconds=-1"),
        ({"reverse_cost": 0}, "reverse_cost=0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(OptionError, match=message):
        color(np.eye(2), **options)
