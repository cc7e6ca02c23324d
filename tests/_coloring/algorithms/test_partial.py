"""Partial colorings: every wanted entry is alone, against the definition and against dense products."""

import numpy as np
import pytest
from coloring_strategies import patterns
from hypothesis import given
from hypothesis import strategies as st

from torchjac import OptionError, PatternError, SparsityPattern, color
from torchjac._coloring.algorithms.partial import color_partial, color_partial_by_definition, restrict
from torchjac._coloring.recovery.direct import gather_index

SIDES = ["column", "row"]


@st.composite
def parts(draw):
    """A pattern, and some entries, most of which it has."""
    pattern = draw(patterns())
    m, n = pattern.shape
    own = [i * n + j for i, j in zip(pattern.rows.tolist(), pattern.indices.tolist(), strict=True)]
    some = draw(st.sets(st.sampled_from(own), max_size=20)) if own else set()
    if m * n and draw(st.booleans()):
        some |= draw(st.sets(st.integers(0, m * n - 1), max_size=3))
    return pattern, SparsityPattern.from_coo([k // n for k in some], [k % n for k in some], pattern.shape)


@given(parts(), st.sampled_from(SIDES), st.sampled_from(["auto", "natural", "smallest-last", "random"]))
def test_wanted_entries_are_read_off_products_with_random_numbers(part, side, order):
    pattern, entries = part
    m, n = pattern.shape
    coloring = color(pattern, side, order=order, entries=entries)
    assert coloring.verify(pattern, entries)
    assert coloring.lower_bound <= coloring.num_colors == len(set(coloring.colors) - {-1})
    A = np.random.default_rng(0).random((m, n)) * pattern.to_dense().numpy()
    seeds = (coloring.colors == np.arange(coloring.num_colors)[:, None]).astype(float)
    products = seeds @ (A.T if side == "column" else A)
    wanted = pattern & entries
    np.testing.assert_allclose(products.ravel()[gather_index(wanted, coloring)], A[wanted.rows, wanted.indices])


@given(patterns(), st.sampled_from(SIDES))
def test_where_all_is_wanted_the_colors_are_those_of_all(pattern, side):
    everything = color(pattern, side, entries=pattern, order="natural")
    assert everything.colors.tolist() == color(pattern, side, order="natural").colors.tolist()


@given(parts(), st.randoms(use_true_random=False))
def test_first_fit_gives_the_colors_of_the_textbook(part, random):
    wanted = restrict(*part)
    order = wanted.graph.vertices.copy()
    random.shuffle(order)
    pattern, entries = (p.to_dense().numpy() for p in part)
    asked = pattern & entries
    there = pattern & asked.any(0) & asked.any(1)[:, None]
    nets = [(set(a.nonzero()[0].tolist()), set(t.nonzero()[0].tolist())) for a, t in zip(asked, there, strict=True)]
    expected = color_partial_by_definition(nets, order.tolist())
    assert {v: c for v, c in enumerate(color_partial(wanted, order)) if c >= 0} == expected


@pytest.mark.parametrize(("reach", "expected"), [(1, 2), (2, 3), (4, 5)])
def test_the_diagonal_of_a_band_takes_one_color_a_step(reach, expected):
    i = np.arange(200)
    band = SparsityPattern.from_dense(abs(i[:, None] - i) <= reach)
    diagonal = SparsityPattern.from_coo(i, i, band.shape)
    partial = color(band, entries=diagonal)
    assert (partial.num_colors, color(band).num_colors) == (expected, 2 * reach + 1)


def test_more_colors_than_bits_in_a_word():
    dense = np.ones((3, 200), bool)
    dense[2, 5] = False  # not quite full, which would be known without a search
    pattern = SparsityPattern.from_dense(dense)
    assert color(pattern, entries=pattern, order="natural").colors.tolist() == list(range(200))


def test_of_a_full_pattern_each_wanted_column_is_on_its_own():
    full, entries = SparsityPattern.full((4, 10**5)), SparsityPattern.from_coo([0, 1], [7, 7], (4, 10**5))
    coloring = color(full, entries=entries)
    assert coloring.num_colors == 1
    assert np.flatnonzero(coloring.colors >= 0).tolist() == [7]


def test_a_coloring_that_loses_a_wanted_entry_is_told():
    band = SparsityPattern.from_dense(np.eye(5) + np.eye(5, k=1))
    coloring = color(band, entries=np.eye(5))
    with pytest.raises(PatternError, match="cannot be recovered"):
        color(np.eye(5)).verify(band, np.eye(5))
    assert coloring.verify(band, np.eye(5))
    with pytest.raises(OptionError, match="'bidirectional'"):
        color(band, "bidirectional", entries=np.eye(5))
