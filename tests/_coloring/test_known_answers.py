"""Patterns whose best coloring is known from theory, and larger ones with published counts."""

import numpy as np
import pytest
from scipy.sparse import eye_array, kron

from torchjac import SparsityPattern, color


def stencil(shape, offsets, periodic=False):
    """Entries (p, p + d) for every grid point p and offset d."""
    points, size = np.indices(shape).reshape(len(shape), -1), np.array(shape)[:, None]
    rows, columns = [], []
    for offset in offsets:
        other = points + np.array(offset)[:, None]
        inside = np.full(points.shape[1], True) if periodic else ((other >= 0) & (other < size)).all(axis=0)
        rows.append(np.flatnonzero(inside))
        columns.append(np.ravel_multi_index(tuple((other % size)[:, inside]), shape))
    return SparsityPattern.from_coo(np.concatenate(rows), np.concatenate(columns), (points.shape[1],) * 2)


def cross(d):
    unit = np.eye(d, dtype=int)
    return [np.zeros(d, int), *unit, *-unit]


def box(d):
    return list(np.indices((3,) * d).reshape(d, -1).T - 1)


def banded(n, half):
    return stencil((n,), [(d,) for d in range(-half, half + 1)])


def brusselator(n):
    """Two species on a periodic grid, index (i n + j) 2 + species."""
    grid = stencil((n, n), cross(2), periodic=True).to_scipy().astype(int)
    return SparsityPattern.from_scipy(kron(grid, eye_array(2), "csr") + kron(eye_array(n * n), np.ones((2, 2)), "csr"))


def counts(pattern):
    """Products of a column, a star and an acyclic coloring."""
    found = [
        color(pattern, "column"),
        color(pattern, "symmetric"),
        color(pattern, "symmetric", recovery="substitution"),
    ]
    assert all(coloring.verify(pattern) for coloring in found)
    return [coloring.num_colors for coloring in found]


@pytest.mark.parametrize("half", [1, 2, 5])
def test_banded_takes_2b_plus_1_directly_and_b_plus_1_by_substitution(half):
    assert counts(banded(300, half)) == [2 * half + 1, 2 * half + 1, half + 1]


@pytest.mark.parametrize(
    ("pattern", "at_most"),
    [
        (stencil((60, 47), cross(2)), [5, 5, 3]),
        (stencil((60, 47), box(2)), [9, 9, 5]),
        (stencil((14, 15, 16), cross(3)), [7, 7, 4]),
        (stencil((30, 45), cross(2), periodic=True), [5, 5, 4]),
        (stencil((30, 45), box(2), periodic=True), [9, 9, 6]),
    ],
    ids=["5-point", "9-point", "7-point", "periodic 5-point", "periodic 9-point"],
)
def test_stencils_take_no_more_than_their_points_and_half_of_them_by_substitution(pattern, at_most):
    assert all(ours <= theirs for ours, theirs in zip(counts(pattern), at_most, strict=True))


@pytest.mark.parametrize(("n", "colors"), [(36, 6), (32, 8)])
def test_the_periodic_brusselator_takes_six_where_six_divides_the_grid(n, colors):
    assert color(brusselator(n)).num_colors == colors


def test_an_arrow_takes_two_symmetric_products():
    n = 500
    k, zero = np.arange(n), np.zeros(n, int)
    arrow = SparsityPattern.from_coo(np.concatenate([k, zero, k]), np.concatenate([k, k, zero]), (n, n))
    assert color(arrow, "symmetric").num_colors == 2


def test_a_triangle_mesh_of_50_000_elements_takes_seven():
    cells, rng = 158, np.random.default_rng(0)
    number = rng.permutation((cells + 1) ** 2).reshape(cells + 1, cells + 1)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, d), (a, d, c))])
    n = (cells + 1) ** 2
    pattern = SparsityPattern.from_coo(np.repeat(triangles, 3, axis=1).ravel(), np.tile(triangles, 3).ravel(), (n, n))
    assert color(pattern, order="largest-first").num_colors >= 13  # what one order alone may give
    assert color(pattern).num_colors == 7


def test_random_rows_of_ten_take_29():
    n = 100_000
    columns = np.random.default_rng(0).integers(0, n, (n, 10))
    pattern = SparsityPattern.from_coo(np.repeat(np.arange(n), 10), columns.ravel(), (n, n))
    assert color(pattern).num_colors <= 29
