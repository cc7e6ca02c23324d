"""SparsityPattern against dense boolean matrices."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchjac as tj
from torchjac import Note, PatternError, SparsityPattern


@st.composite
def matrices(draw):
    """Boolean matrices, 0 x n and m x 0 among them, with equal and empty rows."""
    m, n = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    rows = draw(st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1, max_size=4))
    return np.array([draw(st.sampled_from(rows)) for _ in range(m)], bool).reshape(m, n)


def sharing_sets(matrix):
    """The pattern as detection makes it: distinct sets once, some of no row."""
    sets, row_sets = np.unique(np.vstack([matrix, np.ones_like(matrix[:1])]), axis=0, return_inverse=True)
    indptr = np.concatenate([[0], np.cumsum(sets.sum(1))])
    return SparsityPattern(matrix.shape, row_sets.reshape(-1)[: len(matrix)], indptr, np.nonzero(sets)[1])


def every_way(matrix):
    """The pattern of one matrix, built in every way."""
    rows, columns = matrix.nonzero()
    order = np.random.default_rng(0).permutation(2 * rows.size)
    sparse = scipy.sparse.csr_array(matrix)
    return [
        SparsityPattern.from_dense(matrix),
        SparsityPattern.from_coo(np.tile(rows, 2)[order], np.tile(columns, 2)[order], matrix.shape),
        SparsityPattern.from_scipy(sparse),
        SparsityPattern.from_csr(sparse.indptr, sparse.indices, matrix.shape),
        sharing_sets(matrix),
    ]


def as_pattern(given):
    """What a plan takes ``given`` for."""
    m, n = np.shape(given) if isinstance(given, list) else given.shape
    f = lambda x: torch.cat([x, x])[:m]  # noqa: E731  # (n,) -> (m,), for m up to 2 n
    return tj.plan_jacobian(f, torch.rand(n), sparsity=given, check=False).pattern


@given(matrices())
def test_every_way_in_is_one_pattern_and_comes_out_again(matrix):
    for pattern in every_way(matrix):
        assert pattern == SparsityPattern.from_dense(matrix)
        assert (pattern.shape, pattern.nnz) == (matrix.shape, matrix.sum())
        np.testing.assert_array_equal(pattern.to_dense().numpy(), matrix)
        np.testing.assert_array_equal(pattern.to_scipy().toarray(), matrix)
        np.testing.assert_array_equal(np.stack([pattern.rows, pattern.indices]), matrix.nonzero())


@given(matrices())
def test_the_transpose_is_that_of_the_matrix_and_its_own_inverse(matrix):
    for pattern in every_way(matrix):
        np.testing.assert_array_equal(pattern.T.to_dense().numpy(), matrix.T)
        assert pattern == pattern.T.T


@given(matrices())
def test_torch_takes_the_csr_arrays(matrix):
    for pattern in every_way(matrix):
        values = torch.ones(pattern.nnz)
        with torch.sparse.check_sparse_tensor_invariants():
            csr = torch.sparse_csr_tensor(pattern.crow_indices, pattern.col_indices, values, pattern.shape)
        np.testing.assert_array_equal(csr.to_dense().numpy() != 0, matrix)


@given(matrices(), matrices())
def test_patterns_are_equal_when_their_matrices_are(a, b):
    assert (sharing_sets(a) == SparsityPattern.from_dense(b)) == (a.shape == b.shape and (a == b).all())


MATRIX = np.array([[0, 2, 0, 1], [0, 0, 0, 0], [3, 0, 0, 4]])


@pytest.mark.parametrize(
    "convert",
    [
        lambda m: m,
        lambda m: m.tolist(),
        torch.tensor,
        lambda m: torch.tensor(m, dtype=torch.bfloat16),
        lambda m: torch.tensor(m, dtype=torch.complex64) * 1j,
        lambda m: torch.tensor(m, dtype=torch.float64, requires_grad=True),
        lambda m: torch.tensor(m).to_sparse_coo(),
        lambda m: torch.tensor(m).to_sparse_csr(),
        lambda m: torch.tensor(m).to_sparse_csc(),
        lambda m: torch.tensor(m, dtype=torch.float64).to_sparse_csr().requires_grad_(),
        scipy.sparse.csr_matrix,
        scipy.sparse.csc_array,
        scipy.sparse.dok_array,
        scipy.sparse.dia_array,
        SparsityPattern.from_dense,
    ],
)
def test_what_counts_as_a_pattern(convert):
    np.testing.assert_array_equal(as_pattern(convert(MATRIX)).to_dense().numpy(), MATRIX != 0)


@pytest.mark.parametrize("convert", [lambda s: s, lambda s: s.to_sparse_csr(), lambda s: s.to_sparse_csc()])
def test_explicit_zeros_and_duplicates_of_torch_tensors_are_entries(convert):
    stored = torch.sparse_coo_tensor(torch.tensor([[0, 1, 1], [2, 0, 0]]), torch.tensor([0.0, 1.0, -1.0]), (2, 3))
    assert as_pattern(convert(stored)) == SparsityPattern.from_coo([0, 1], [2, 0], (2, 3))


def test_explicit_zeros_and_duplicates_of_scipy_matrices_are_entries():
    stored = scipy.sparse.coo_array(([0.0, 1.0, -1.0], ([0, 1, 1], [2, 0, 0])), (2, 3))
    for matrix in (stored, scipy.sparse.csr_array(([0.0, 1.0, -1.0], [2, 0, 0], [0, 1, 3]), (2, 3))):
        assert SparsityPattern.from_scipy(matrix) == SparsityPattern.from_coo([0, 1], [2, 0], (2, 3))


@pytest.mark.parametrize("layout", [torch.sparse_bsr, torch.sparse_bsc])
def test_a_block_sparse_tensor_counts_with_whole_blocks(layout):
    blocks = torch.eye(4).to_sparse(layout=layout, blocksize=(2, 2))
    np.testing.assert_array_equal(as_pattern(blocks).to_dense().numpy(), np.kron(np.eye(2), np.ones((2, 2))) != 0)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 1), (4, 7)])
def test_the_full_pattern_has_every_entry_and_keeps_one_row(shape):
    full = SparsityPattern.full(shape)
    assert full == SparsityPattern.from_dense(np.ones(shape))
    assert full.index_sets[2].size == shape[1]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: SparsityPattern.from_coo([0, 5], [0, 0], (2, 3)), "row index 5 in a pattern of 2 x 3\n.* 0 to 1"),
        (lambda: SparsityPattern.from_coo([0, 1], [0, -1], (2, 3)), "column index -1 in .*\n.* 0 to 2"),
        (lambda: SparsityPattern.from_coo([0], [0], (2, 0)), "column index 0 in a pattern of 2 x 0"),
        (lambda: SparsityPattern.from_coo([0, 1], [0], (2, 3)), "2 row and 1 column indices\n  expected: as many"),
        (lambda: SparsityPattern.from_csr([0, 1], [0], (2, 3)), r"indptr of shape \(2,\) and 1 indices .* 2 rows"),
        (lambda: SparsityPattern.from_csr([0, 2, 1], [0], (2, 3)), "never falling"),
        (lambda: SparsityPattern.from_csr([0, 1], [3], (1, 3)), "column index 3 in a pattern of 1 x 3"),
        (lambda: SparsityPattern.from_csr([0, 2], [1, 0], (1, 3)), "do not rise\n.*sorted and distinct.*\n.*from_coo"),
        (lambda: SparsityPattern.from_csr([0, 2], [1, 1], (1, 3)), "do not rise"),
        (lambda: SparsityPattern.from_dense(np.ones(3)), r"1 dimensions\n  expected: 2 dimensions, \(m, n\)"),
        (lambda: tj.color("abc"), "a pattern of type str\n  expected: a SparsityPattern, a SciPy.*\n.*from_coo"),
        (lambda: tj.color(torch.ones(2, 2, 2).to_sparse(1)), r"shape \(2, 2, 2\)\n  expected: two sparse dim"),
    ],
)
def test_what_is_no_pattern_says_why(make, text):
    with pytest.raises(PatternError, match=text):
        make()


def test_rows_may_start_below_where_the_last_one_ended():
    pattern = SparsityPattern.from_csr([0, 2, 2, 4], [1, 2, 0, 2], (3, 3))
    assert pattern.to_dense().int().tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 1]]


def test_text():
    pattern = SparsityPattern.from_dense(np.eye(2))
    pattern.notes = (Note("nonzero", "decides", "model.py:3: y = x[m]"), Note("op", "why"))
    assert str(pattern).splitlines() == [
        "SparsityPattern(2 x 2, 2 entries, 50% dense, global)",
        "  ┌──┐",
        "  │# │",
        "  │ #│",
        "  └──┘",
        "  note: nonzero: decides (model.py:3: y = x[m])",
        "  note: op: why",
    ]
    assert str(SparsityPattern.full((0, 3))) == "SparsityPattern(0 x 3, 0 entries, empty, global)"


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 10))
def test_a_picture_shows_ink_exactly_where_there_are_entries(m, n, seed):
    cells = np.random.default_rng(seed).integers(0, m * n, 5)
    lines = str(SparsityPattern.from_coo(cells // n, cells % n, (m, n))).splitlines()[1:]
    height, width = min(m, 16), min(n, 48)
    inked = {(i, j) for i, line in enumerate(lines[1:-1]) for j, c in enumerate(line[3:-1]) if c != " "}
    assert len(lines) == height + 2
    assert inked == {(int(c // n) * height // m, int(c % n) * width // n) for c in cells}


def test_a_pattern_is_no_key():
    with pytest.raises(TypeError, match="unhashable"):
        hash(SparsityPattern.full((1, 1)))
    assert SparsityPattern.full((1, 1)) != "pattern"
