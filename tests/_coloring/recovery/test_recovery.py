"""Random matrices come back exactly from their compressed products, by every partition and recovery."""

import numpy as np
import pytest
import torch
from coloring_strategies import patterns, symmetric_patterns
from hypothesis import given
from hypothesis import strategies as st

from torchjac import SparsityPattern, color
from torchjac._coloring.recovery.direct import gather_index
from torchjac._coloring.recovery.substitution import Substitution
from torchjac._products.seeds import Seeds


def matrix(pattern, symmetric=False):
    """Small integers at the entries, so that sums and differences are exact."""
    dense = torch.randint(1, 100, pattern.shape, generator=torch.Generator().manual_seed(0)).double()
    return (dense + dense.T if symmetric else dense) * pattern.to_dense()


def entries(pattern, dense):
    return dense[torch.from_numpy(pattern.rows.astype(np.int64)), pattern.col_indices]


def products(dense, colors):
    """Each color's sum of columns, laid end to end."""
    seeds = Seeds(colors, dense.dtype, dense.device).chunk(0, int(colors.max(initial=-1)) + 1)
    return (seeds @ dense.T).ravel()


@given(symmetric_patterns(), st.sampled_from(["auto", "natural", "random", "smallest-last"]))
def test_a_hessian_comes_back_from_a_star_coloring(pattern, order):
    coloring, dense = color(pattern, "symmetric", order=order), matrix(pattern, symmetric=True)
    index = torch.from_numpy(gather_index(pattern, coloring))
    assert torch.equal(products(dense, coloring.colors)[index], entries(pattern, dense))


@given(symmetric_patterns(), st.sampled_from(["auto", "natural", "random", "smallest-last"]))
def test_a_hessian_comes_back_by_substitution(pattern, order):
    coloring = color(pattern, "symmetric", order=order, recovery="substitution")
    dense = matrix(pattern, symmetric=True)
    assert torch.equal(Substitution(pattern, coloring)(products(dense, coloring.colors)), entries(pattern, dense))


def both_products(dense, coloring):
    return torch.cat([products(dense, coloring.column_colors), products(dense.T, coloring.row_colors)])


@given(patterns(), st.sampled_from(["auto", "natural", "largest-first"]), st.sampled_from([0.5, 1.0, 2.0]))
def test_a_jacobian_comes_back_from_a_star_bicoloring(pattern, order, reverse_cost):
    coloring, dense = color(pattern, "bidirectional", order=order, reverse_cost=reverse_cost), matrix(pattern)
    index = torch.from_numpy(gather_index(pattern, coloring))
    assert torch.equal(both_products(dense, coloring)[index], entries(pattern, dense))


@given(patterns(), st.sampled_from(["auto", "natural", "largest-first"]), st.sampled_from([0.5, 1.0, 2.0]))
def test_a_jacobian_comes_back_by_substitution(pattern, order, reverse_cost):
    coloring = color(pattern, "bidirectional", order=order, reverse_cost=reverse_cost, recovery="substitution")
    dense = matrix(pattern)
    assert torch.equal(Substitution(pattern, coloring)(both_products(dense, coloring)), entries(pattern, dense))


@given(patterns(), st.sampled_from(["column", "row"]))
def test_a_jacobian_comes_back_from_one_side(pattern, partition):
    coloring, dense = color(pattern, partition), matrix(pattern)
    places = coloring.equations(pattern).places
    index = torch.from_numpy(places[0] if partition == "column" else places[1])
    compressed = products(dense if partition == "column" else dense.T, coloring.colors)
    assert torch.equal(compressed[index], entries(pattern, dense))


@pytest.fixture
def tree():
    """A tridiagonal pattern in two colors: substitution reaches the middle in n / 2 levels."""
    pattern = SparsityPattern.from_dense(abs(np.arange(9)[:, None] - np.arange(9)) < 2)
    coloring = color(pattern, "symmetric", recovery="substitution")
    assert coloring.num_colors == 2
    return Substitution(pattern, coloring)


def test_substitution_has_the_gradient_of_a_linear_map(tree):
    x = torch.rand(tree.size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(tree, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(tree, x)


def test_substitution_goes_through_function_transforms(tree):
    x, v = torch.rand(2, 3, tree.size, dtype=torch.float64)
    expected = torch.stack([tree(row) for row in x])
    assert torch.equal(torch.vmap(tree)(x), expected)
    assert torch.allclose(torch.func.jvp(tree, (x[0],), (v[0],))[1], tree(v[0]))
    assert torch.allclose(torch.func.jacrev(tree)(x[0]), torch.func.jacfwd(tree)(x[0]))
