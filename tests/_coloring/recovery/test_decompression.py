"""From compressed products to values, and from values to matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchjac import SparsityPattern, color
from torchjac._coloring.recovery.direct import gather_index
from torchjac._matrices.indices import TORCH_LAYOUTS
from torchjac._matrices.layouts import BlockedSubmatrix, Submatrix


@st.composite
def patterns(draw):
    m, n = draw(st.integers(0, 10)), draw(st.integers(0, 10))
    seed = draw(st.integers(0, 1000))
    return SparsityPattern.from_dense(np.random.default_rng(seed).random((m, n)) < draw(st.sampled_from([0.1, 0.4, 1])))


def matrix_on(pattern):
    values = torch.arange(1.0, pattern.nnz + 1, dtype=torch.float64)
    dense = torch.zeros(pattern.shape, dtype=torch.float64)
    dense[pattern.to_dense()] = values
    return values, dense


@given(patterns(), st.sampled_from(["column", "row"]))
def test_the_gather_recovers_every_entry_of_the_compressed_matrix(pattern, partition):
    values, dense = matrix_on(pattern)
    coloring = color(pattern, partition)
    seeds = torch.from_numpy(coloring.colors == np.arange(coloring.num_colors)[:, None]).double()
    compressed = seeds @ (dense.T if partition == "column" else dense)
    assert torch.equal(compressed.reshape(-1)[gather_index(pattern, coloring)], values)


@given(patterns(), st.data())
def test_a_block_is_a_slice_in_every_layout(pattern, data):
    values, dense = matrix_on(pattern)
    (r0, r1), (c0, c1) = (sorted(data.draw(st.tuples(st.integers(0, s), st.integers(0, s)))) for s in pattern.shape)
    block = Submatrix(pattern, (r0, r1), (c0, c1), torch.device("cpu"))
    expected = dense[r0:r1, c0:c1]
    for layout in TORCH_LAYOUTS:
        with torch.sparse.check_sparse_tensor_invariants():
            got = block.matrix(layout, values)
        assert got.layout is layout
        assert torch.equal(got if layout is torch.strided else got.to_dense(), expected)


@given(st.integers(0, 99), st.integers(1, 3), st.integers(1, 3), st.sampled_from([torch.sparse_bsr, torch.sparse_bsc]))
def test_dense_blocks_hold_the_entries_and_zeros(seed, p, q, layout):
    generator = torch.Generator().manual_seed(seed)
    few, whole = torch.rand(6 * p, 6 * q, generator=generator) < 0.05, torch.rand(6, 6, generator=generator) < 0.3
    there = whole.repeat_interleave(p, 0).repeat_interleave(q, 1)  # all of some blocks, part of others
    pattern = SparsityPattern.from_dense(there | few if seed % 2 else there)
    values, dense = matrix_on(pattern)
    cuts = [((0, 6 * p), (0, 6 * q)), ((p, 4 * p), (2 * q, 6 * q)), ((p, p), (0, q))]
    for rows, columns in cuts:
        blocks = BlockedSubmatrix(Submatrix(pattern, rows, columns, torch.device("cpu")), layout, (p, q))
        expected = dense[slice(*rows), slice(*columns)]
        with torch.sparse.check_sparse_tensor_invariants():
            got = blocks.matrix(layout, values)
        assert got.layout is layout
        assert torch.equal(got.to_dense(), expected)
        assert torch.equal(blocks.block_matrix(values).to_dense(), expected)
        stored = expected.reshape(expected.shape[0] // p, p, expected.shape[1] // q, q).ne(0).any(3).any(1).sum()
        assert got.values().shape == (stored, p, q)


@pytest.mark.parametrize("layout", TORCH_LAYOUTS, ids=str)
def test_gradients_flow_to_the_values(layout):
    pattern = SparsityPattern.from_coo([0, 0, 1, 2], [0, 2, 1, 0], (3, 3))
    block = Submatrix(pattern, (0, 3), (0, 3), torch.device("cpu"))

    def dense(values):
        matrix = block.matrix(layout, values)
        return matrix if layout is torch.strided else matrix.to_dense()

    assert torch.autograd.gradcheck(dense, torch.rand(4, dtype=torch.float64, requires_grad=True))


def test_a_coo_result_is_coalesced_and_explicit_zeros_stay():
    block = Submatrix(SparsityPattern.from_coo([0, 1], [1, 0], (2, 2)), (0, 2), (0, 2), torch.device("cpu"))
    coo = block.matrix(torch.sparse_coo, torch.zeros(2))
    assert coo.is_coalesced()
    assert coo.indices().tolist() == [[0, 1], [1, 0]]


def test_index_arrays_are_made_once():
    block = Submatrix(SparsityPattern.full((2, 2)), (0, 2), (0, 2), torch.device("cpu"))
    a, b = (block.matrix(torch.sparse_csr, torch.ones(4)) for _ in range(2))
    assert a.col_indices().data_ptr() == b.col_indices().data_ptr()


@pytest.mark.parametrize("layout", TORCH_LAYOUTS, ids=str)
def test_a_part_of_a_dense_matrix_is_cut_out_without_index_tensors(layout):
    values = torch.rand(4 * 5)
    block = Submatrix(SparsityPattern.full((4, 5)), (1, 3), (2, 5), torch.device("cpu"))
    part = block.values(values)
    assert part.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()
    got = block.matrix(layout, values)
    dense = got if layout is torch.strided else got.to_dense()
    assert torch.equal(dense, values.reshape(4, 5)[1:3, 2:5])
