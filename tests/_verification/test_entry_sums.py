"""Sums over the entries of a pattern, in pieces, against the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import assert_close

import torchjac._verification.entry_sums as sums_module
from torchjac import SparsityPattern
from torchjac._base.memory import peak_bytes
from torchjac._verification.entry_sums import EntrySums

CPU = torch.device("cpu")


def patterns():
    rng = np.random.default_rng(0)
    yield SparsityPattern.full((5, 7))
    yield SparsityPattern.from_coo([], [], (0, 3))
    yield SparsityPattern.from_coo([], [], (3, 0))
    yield SparsityPattern.from_coo([2], [0], (4, 1))
    for m, n, share in [(6, 9, 0.3), (40, 11, 0.5), (1, 30, 0.9), (30, 1, 0.5)]:
        dense = rng.random((m, n)) < share
        dense[m // 2] = False  # an empty row
        yield SparsityPattern.from_dense(dense)


@pytest.mark.parametrize("piece", [1, 3, 10, 2**14])
@pytest.mark.parametrize("pattern", patterns(), ids=lambda p: f"{p.shape[0]}x{p.shape[1]}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_are_those_of_the_dense_matrix_whatever_the_pieces(monkeypatch, pattern, piece, dtype):
    monkeypatch.setattr(sums_module, "_PIECE", piece)
    generator = torch.Generator().manual_seed(1)
    values, u, v = (torch.randn(k, generator=generator).to(dtype) for k in (pattern.nnz, *pattern.shape))
    mask, sums = pattern.to_dense(), EntrySums(pattern, CPU)
    dense = torch.zeros(pattern.shape, dtype=dtype).masked_scatter(mask, values)
    for got, expected in [
        ((sums.by_column(values, u),), (u @ dense,)),
        ((sums.by_column(values, u, absolute=True),), (u.abs() @ dense.abs(),)),
        (sums.by_row(values, v), (dense @ v, dense.abs() @ v.abs())),
        ((sums.columns_of(u),), (u.abs() @ mask.to(dtype),)),
        ((sums.outer(u, v),), (torch.outer(u, v)[mask],)),
    ]:
        for mine, theirs in zip(got, expected, strict=True):
            assert_close(mine, theirs)
    for row in range(pattern.shape[0]):
        assert sums.columns(row).tolist() == mask[row].nonzero().flatten().tolist()


@pytest.mark.parametrize("full", [False, True])
def test_a_sum_over_a_million_entries_takes_a_megabyte_or_two(full):
    pattern = SparsityPattern.full((1000, 1000))
    if not full:
        band = np.arange(20_000)[:, None] + np.arange(50)
        pattern = SparsityPattern.from_coo(np.repeat(np.arange(20_000), 50), band.ravel(), (20_000, 20_049))
    values, u = torch.rand(1_000_000, dtype=torch.float64), torch.rand(pattern.shape[0], dtype=torch.float64)
    pattern.indices  # noqa: B018  # made once for a pattern
    for absolute in (False, True):
        assert peak_bytes(lambda: EntrySums(pattern, CPU).by_column(values, u, absolute)) < 2 * 2**20  # noqa: B023  # called here
