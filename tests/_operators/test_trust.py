"""Trust in products: what is found wrong with batches of them, and with pairs of them."""

from __future__ import annotations

import pytest
import torch
from internals import adjoint_fault, batch_fault

J = torch.tensor([[1.0, 2.0, 0.0], [0.0, 3.0, 4.0]], dtype=torch.float64)
SEEDS = torch.eye(3, dtype=torch.float64)


def one(v):
    return J @ v


def refused(seeds):
    raise RuntimeError("no batching rule\nfor this op")


def out_of_memory(seeds):
    raise torch.OutOfMemoryError("out of memory")


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        (lambda seeds: seeds @ J.T, ""),
        (lambda seeds: 2 * seeds @ J.T, "batches of them are wrong here"),
        (refused, "PyTorch said: no batching rule"),
    ],
)
def test_a_batch_is_compared_with_single_products(batch, reason):
    assert batch_fault(SEEDS, one, batch) == reason


def test_memory_that_runs_out_is_not_a_fault():
    with pytest.raises(torch.OutOfMemoryError):
        batch_fault(SEEDS, one, out_of_memory)


def test_both_products_must_be_of_one_matrix():
    like = torch.empty(0, dtype=torch.float64)
    assert adjoint_fault((2, 3), like, one, lambda u: u @ J) == ""
    assert adjoint_fault((2, 3), like, one, lambda u: 2 * (u @ J)).startswith("u.(J v) is ")
