"""Star, acyclic and symmetric colorings against the definitions."""

import itertools

import numpy as np
import pytest
from coloring_strategies import neighbors_of, symmetric_patterns
from hypothesis import given
from hypothesis import strategies as st

from torchjac import PatternError, SparsityPattern, color
from torchjac._coloring.algorithms.acyclic import color_acyclic, is_acyclic, is_acyclic_by_definition
from torchjac._coloring.algorithms.adjacency import symmetric_graph
from torchjac._coloring.algorithms.order import ORDERS
from torchjac._coloring.algorithms.star import color_star, is_star_by_definition


def forests_by_networkx(near, colors):
    """Neighbors differ, and the vertices of any two colors induce a forest."""
    networkx = pytest.importorskip("networkx")
    graph = networkx.Graph([(v, u) for v in range(len(near)) for u in near[v]])
    parts = [graph.subgraph([v for v in graph if colors[v] in pair]) for pair in itertools.combinations(set(colors), 2)]
    proper = all(colors[v] != colors[u] for v, u in graph.edges)
    return proper and all(len(part) == 0 or networkx.is_forest(part) for part in parts)


@given(symmetric_patterns(), st.randoms(use_true_random=False))
def test_star_coloring_meets_its_definition_and_takes_the_first_that_does(pattern, random):
    near, order = neighbors_of(pattern), np.arange(pattern.shape[0], dtype=np.uint32)
    random.shuffle(order)
    colors = color_star(symmetric_graph(pattern), order)
    assert is_star_by_definition(near, colors.tolist())
    _no_smaller_color(near, order, colors, is_star_by_definition)


@given(symmetric_patterns(), st.randoms(use_true_random=False))
def test_acyclic_coloring_meets_its_definition_and_takes_the_first_that_does(pattern, random):
    near, order = neighbors_of(pattern), np.arange(pattern.shape[0], dtype=np.uint32)
    random.shuffle(order)
    graph = symmetric_graph(pattern)
    colors = color_acyclic(graph, order)
    assert is_acyclic_by_definition(near, colors.tolist())
    assert is_acyclic(graph, colors)
    _no_smaller_color(near, order, colors, is_acyclic_by_definition)


def test_the_lattice_of_a_grid_is_found_however_its_rows_are_kept():
    side = 12
    near = np.abs(np.subtract.outer(np.arange(side), np.arange(side))) <= 1
    pattern = SparsityPattern.from_dense(np.kron(near, near))
    first = np.random.default_rng(0).permutation(side**2)  # the sets in another order than the rows
    sets = [pattern.indices[pattern.indptr[i] : pattern.indptr[i + 1]] for i in first]
    indptr = np.concatenate([[0], np.cumsum([len(s) for s in sets])])
    shuffled = SparsityPattern(pattern.shape, np.argsort(first), indptr, np.concatenate(sets))
    assert shuffled == pattern
    for each in (pattern, shuffled):
        assert color(each, "symmetric", recovery="substitution").num_colors == 5


@pytest.mark.parametrize("natural", [True, False])
def test_star_coloring_with_more_colors_than_an_int32_has_bits(natural):
    random = np.random.default_rng(0)
    mask = np.triu(random.random((80, 80)) < 0.4, 1)
    pattern = SparsityPattern.from_dense(mask | mask.T | np.eye(80, dtype=bool))
    order = np.arange(80) if natural else random.permutation(80)
    colors = color_star(symmetric_graph(pattern), order.astype(np.uint32))
    assert colors.max() >= 40
    assert is_star_by_definition(neighbors_of(pattern), colors.tolist())


def _no_smaller_color(near, order, colors, definition):
    """The last vertex could not have had a smaller color."""
    for smaller in range(colors[order[-1]] if order.size else 0):
        tried = colors.copy()
        tried[order[-1]] = smaller
        assert not definition(near, tried.tolist())


@given(symmetric_patterns(), st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_the_quick_check_agrees_with_the_definition(pattern, colors):
    colors = np.array(colors[: pattern.shape[0]], np.int32)
    near = neighbors_of(pattern)
    expected = forests_by_networkx(near, colors.tolist())
    assert is_acyclic(symmetric_graph(pattern), colors) == is_acyclic_by_definition(near, colors.tolist()) == expected


@given(symmetric_patterns(), st.sampled_from([*ORDERS, "auto"]), st.sampled_from(["direct", "substitution"]))
def test_every_symmetric_coloring_can_be_recovered_from(pattern, order, recovery):
    coloring = color(pattern, "symmetric", order=order, recovery=recovery)
    assert coloring.verify(pattern)
    assert coloring.lower_bound <= coloring.num_colors == len(set(coloring.colors) - {-1})
    assert coloring.num_colors <= color(pattern, "column", order="natural").num_colors


def test_more_colors_than_bits_in_a_word():
    everything = SparsityPattern.from_dense(np.ones((130, 130)))
    for recovery in ("direct", "substitution"):
        assert color(everything, "symmetric", recovery=recovery).num_colors == 130


def test_hexagon_without_a_diagonal_needs_two_products():
    edges = np.array([(0, 3), (0, 4), (1, 3), (1, 5), (2, 4), (2, 5)])  # x0x3 + x0x4 + x1x3 + x1x5 + x2x4 + x2x5
    pattern = SparsityPattern.from_coo(np.r_[edges[:, 0], edges[:, 1]], np.r_[edges[:, 1], edges[:, 0]], (6, 6))
    for recovery in ("direct", "substitution"):
        coloring = color(pattern, "symmetric", recovery=recovery)
        assert coloring.verify(pattern)
        assert coloring.num_colors == 2


def test_a_rectangular_pattern_is_refused():
    with pytest.raises(PatternError, match=r"symmetric coloring of a pattern of shape \(2, 3\)"):
        color(np.ones((2, 3)), "symmetric")


def test_an_unsymmetric_pattern_is_refused_by_name_of_an_entry():
    with pytest.raises(PatternError, match=r"has the entry \(0, 2\) but not \(2, 0\)"):
        color(np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1]]), "symmetric")


@given(symmetric_patterns(), st.data())
def test_a_missing_mirror_image_is_always_found(pattern, data):
    off = [(i, j) for i, near in enumerate(neighbors_of(pattern)) for j in near]
    if not off:
        return
    lost = data.draw(st.sampled_from(off))
    dense = pattern.to_dense()
    dense[lost] = False
    with pytest.raises(PatternError, match=rf"has the entry \({lost[1]}, {lost[0]}\) but not \({lost[0]}, {lost[1]}\)"):
        color(dense, "symmetric")
