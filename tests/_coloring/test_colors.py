"""The kinds of coloring: what they refuse to verify, what they print, whom they cite."""

import re

import numpy as np
import pytest
import scipy.sparse
import torch

from torchjac._base.errors import PatternError
from torchjac._coloring.citations import BIBTEX
from torchjac._coloring.color import color
from torchjac._coloring.colors import AcyclicColors, BidirectionalColors, ColumnColors, RowColors, StarColors

TRIDIAGONAL = abs(np.arange(5)[:, None] - np.arange(5)) < 2
REST = {"num_colors": 2, "lower_bound": 1, "order": "natural", "shape": (5, 5)}
ALTERNATE = np.array([0, 1, 0, 1, 0], np.int32)


def test_columns_that_meet_are_named():
    wrong = ColumnColors(colors=ALTERNATE, **REST)
    with pytest.raises(PatternError, match="columns 0 and 2 share color 0 and both have an entry in row 1"):
        wrong.verify(TRIDIAGONAL)


def test_rows_that_meet_are_named():
    wrong = RowColors(colors=ALTERNATE, **REST)
    with pytest.raises(PatternError, match="rows 0 and 2 share color 0 and both have an entry in column 1"):
        wrong.verify(TRIDIAGONAL)


def test_a_column_without_a_color_is_named():
    wrong = ColumnColors(colors=np.array([0, 1, -1, 0, 1], np.int32), **REST)
    with pytest.raises(PatternError, match="column 2 has entries but no color"):
        wrong.verify(TRIDIAGONAL)


def test_two_colors_are_acyclic_but_no_star_on_a_path():
    assert AcyclicColors(colors=ALTERNATE, **REST).verify(TRIDIAGONAL)
    with pytest.raises(PatternError, match=r"the entry \(1, 2\) cannot be recovered") as error:
        StarColors(colors=ALTERNATE, **REST).verify(TRIDIAGONAL)
    assert error.value.why == "every product that reads it also reads another, such as (0, 1)"


def test_a_coloring_says_whether_entries_are_solved_for():
    ends = np.full(5, -1, np.int32)
    both = {"column_colors": ends, "row_colors": np.arange(5, dtype=np.int32)}
    assert AcyclicColors(colors=ALTERNATE, **REST).by_substitution
    assert BidirectionalColors(**both, recovery="substitution", **REST).by_substitution
    direct = [kind(colors=ALTERNATE, **REST) for kind in (ColumnColors, RowColors, StarColors)]
    assert not any(coloring.by_substitution for coloring in [*direct, BidirectionalColors(**both, **REST)])


def test_a_cycle_cannot_be_substituted():
    ring = np.eye(4, k=1) + np.eye(4, k=-1) + np.eye(4, k=3) + np.eye(4, k=-3)
    wrong = AcyclicColors(colors=ALTERNATE[:4], **REST | {"shape": (4, 4)})
    with pytest.raises(PatternError, match="cannot be recovered"):
        wrong.verify(ring)


def test_an_entry_between_neutral_lines_is_named():
    nowhere = np.full(5, -1, np.int32)
    wrong = BidirectionalColors(column_colors=nowhere, row_colors=np.array([0, 1, 2, -1, 0], np.int32), **REST)
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


@pytest.mark.parametrize("name", sorted(BIBTEX))
def test_bibtex_is_well_formed(name):
    entry = BIBTEX[name]
    assert entry.count("{") == entry.count("}")
    assert re.match(rf"@\w+{{{name},\n", entry)
    assert {"author", "title", "year"} <= set(re.findall(r"(\w+)\s*= {", entry))
