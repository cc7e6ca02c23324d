"""The kinds of coloring: what they refuse to verify, what they print, whom they cite."""

import re
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
import torch

from torchjac import PatternError, color

TRIDIAGONAL = abs(np.arange(5)[:, None] - np.arange(5)) < 2
ALTERNATE = np.array([0, 1, 0, 1, 0], np.int32)


def spoiled(matrix, partition, *, recovery="direct", **colors):
    """A coloring that was right for ``matrix``, with other colors in it."""
    return replace(color(matrix, partition, recovery=recovery), num_colors=2, lower_bound=1, **colors)


def test_columns_that_meet_are_named():
    wrong = spoiled(TRIDIAGONAL, "column", colors=ALTERNATE)
    with pytest.raises(PatternError, match="columns 0 and 2 share color 0 and both have an entry in row 1"):
        wrong.verify(TRIDIAGONAL)


def test_rows_that_meet_are_named():
    wrong = spoiled(TRIDIAGONAL, "row", colors=ALTERNATE)
    with pytest.raises(PatternError, match="rows 0 and 2 share color 0 and both have an entry in column 1"):
        wrong.verify(TRIDIAGONAL)


def test_a_column_without_a_color_is_named():
    wrong = spoiled(TRIDIAGONAL, "column", colors=np.array([0, 1, -1, 0, 1], np.int32))
    with pytest.raises(PatternError, match="column 2 has entries but no color"):
        wrong.verify(TRIDIAGONAL)


def test_two_colors_are_acyclic_but_no_star_on_a_path():
    assert spoiled(TRIDIAGONAL, "symmetric", recovery="substitution", colors=ALTERNATE).verify(TRIDIAGONAL)
    with pytest.raises(PatternError, match=r"the entry \(1, 2\) cannot be recovered") as error:
        spoiled(TRIDIAGONAL, "symmetric", colors=ALTERNATE).verify(TRIDIAGONAL)
    assert error.value.why == "every product that reads it also reads another, such as (0, 1)"


def test_a_cycle_cannot_be_substituted():
    ring = np.eye(4, k=1) + np.eye(4, k=-1) + np.eye(4, k=3) + np.eye(4, k=-3)
    wrong = spoiled(ring, "symmetric", recovery="substitution", colors=ALTERNATE[:4])
    with pytest.raises(PatternError, match="cannot be recovered"):
        wrong.verify(ring)


def test_an_entry_between_neutral_lines_is_named():
    columns, rows = np.full(5, -1, np.int32), np.array([0, 1, 2, -1, 0], np.int32)
    wrong = spoiled(TRIDIAGONAL, "bidirectional", column_colors=columns, row_colors=rows)
    with pytest.raises(PatternError, match=r"the entry \(3, 2\) cannot be recovered") as error:
        wrong.verify(TRIDIAGONAL)
    assert error.value.why == "neither its row nor its column has a color"


@pytest.mark.parametrize("partition", ["column", "row", "symmetric", "bidirectional"])
def test_a_pattern_of_another_shape_is_refused(partition):
    with pytest.raises(PatternError, match=r"shape \(5, 5\) for a pattern of shape \(4, 4\)"):
        color(TRIDIAGONAL, partition).verify(TRIDIAGONAL[:4, :4])


def test_any_kind_of_matrix_is_a_pattern_and_duplicates_and_zeros_count_once():
    rows, columns = [0, 0, 1, 1], [0, 0, 1, 2]
    kinds = [
        scipy.sparse.coo_array(([1.0, 1.0, 0.0, 1.0], (rows, columns)), shape=(2, 3)),
        torch.sparse_coo_tensor([rows, columns], [1.0, 1.0, 0.0, 1.0], (2, 3), check_invariants=True),
        np.array([[1, 0, 0], [0, 1, 1]]),
    ]
    for kind in kinds:
        assert color(kind).colors.tolist() == [0, 0, 1]


def test_printing_says_how_far_from_optimal():
    assert str(color(TRIDIAGONAL)) == "3 column colors (natural order), which is optimal (lower bound 3)"
    both = str(color(TRIDIAGONAL, "bidirectional"))
    assert re.fullmatch(
        r"3 bidirectional colors \(.*\), which is optimal \(lower bound 3\): 3 forward, 0 reverse", both
    )


@pytest.mark.parametrize("order", ["natural", "largest-first", "smallest-last", "incidence-degree", "dsatur", "random"])
@pytest.mark.parametrize("partition", ["column", "row", "symmetric", "bidirectional"])
def test_a_coloring_cites_the_papers_it_used(partition, order):
    coloring = color(TRIDIAGONAL, partition, order=order)
    assert coloring.citation().count("@") == len(coloring.sources) == len(set(coloring.sources)) > 0


PAPERS = """brelaz1979 coleman1983 coleman1998 culberson1992 curtis1974 cuthill1969 gebremedhin2005 gebremedhin2007
gebremedhin2013 goldfarb1984 matula1983 montoison2025 welsh1967""".split()


@pytest.mark.parametrize("name", PAPERS)
def test_bibtex_is_well_formed(name):
    entry = replace(color(TRIDIAGONAL), sources=(name,)).citation()
    assert entry.count("{") == entry.count("}")
    assert re.match(rf"@\w+{{{name},\n", entry)
    assert {"author", "title", "year"} <= set(re.findall(r"(\w+)\s*= {", entry))
