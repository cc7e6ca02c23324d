"""Index tensors: the same ones for whoever asks, and products that find every pair of entries that meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from internals import Pairs, indices_of

from torchjac import Note, SparsityPattern

CPU = torch.device("cpu")


def pattern_of(m, n, seed):
    return SparsityPattern.from_dense(np.random.default_rng(seed).random((m, n)) < 0.4)


def test_a_pattern_has_one_set_of_indices_on_a_device():
    pattern = pattern_of(3, 4, 0)
    assert indices_of(pattern, CPU) is indices_of(pattern, CPU)
    assert indices_of(pattern, torch.device("meta")) is not indices_of(pattern, CPU)
    assert indices_of(pattern_of(3, 4, 0), CPU) is not indices_of(pattern, CPU)


def test_places_are_those_of_the_dense_matrix():
    pattern = pattern_of(5, 4, 1)
    at, dense = indices_of(pattern, CPU), pattern.to_dense()
    assert torch.equal(at.places, dense.reshape(-1).nonzero()[:, 0])
    assert torch.equal(torch.stack([at.rows, at.columns]), dense.nonzero().T)
    pointers, rows, permutation = at.by_column
    assert torch.equal(rows, dense.T.nonzero()[:, 1])
    assert torch.equal(pointers.diff(), dense.sum(0))
    assert torch.equal(at.columns[permutation], dense.T.nonzero()[:, 0])


def test_products_are_remembered_while_the_other_factor_lives():
    left, right = indices_of(pattern_of(3, 4, 0), CPU), indices_of(pattern_of(4, 2, 1), CPU)
    assert left.times(right) is left.times(right)
    assert len(left.products) == 1
    right.pattern.on_device.clear()  # patterns and indices hold each other
    del right
    assert len(left.products) == 0


@pytest.mark.parametrize("make", [lambda at: Pairs.gram(at), lambda at: at.times(at)], ids=["gram", "product"])
def test_what_is_known_of_the_factors_is_known_of_the_product(make):
    pattern = pattern_of(4, 4, 0)
    pattern.scope, pattern.notes = "local", (Note("relu", "by value"),)
    product = make(indices_of(pattern, CPU)).indices.pattern
    assert (product.scope, product.notes) == ("local", pattern.notes)


def test_half_of_a_gram_matrix_is_summed():
    gram = Pairs.gram(indices_of(SparsityPattern.full((5, 4)), CPU))
    assert (gram.sums, gram.left.numel(), gram.indices.pattern.nnz) == (10, 50, 16)
