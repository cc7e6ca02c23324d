"""BlockMatrix and block layouts: the numbers of the dense matrix, block by block."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_close, dense_jacobian

import torchjac as tj
from torchjac.cli.demo.problems import generated_bundle


def random_blocks(m: int, n: int, size: tuple[int, int], seed: int = 0, **options) -> tj.BlockMatrix:
    """m x n blocks, each stored with probability 1/2."""
    generator = torch.Generator().manual_seed(seed)
    pattern = tj.SparsityPattern.from_dense(torch.rand(m, n, generator=generator) < 0.5)
    return tj.BlockMatrix(pattern, torch.rand(pattern.nnz, *size, dtype=torch.float64, **options))


sizes = st.integers(1, 3)
counts = st.integers(0, 4)


@settings(max_examples=40)
@given(counts, counts, counts, sizes, sizes, sizes, st.integers(0, 99))
def test_products_are_those_of_dense_matrices(m, n, k, p, q, r, seed):
    A, B = random_blocks(m, n, (p, q), seed), random_blocks(n, k, (q, r), seed + 1)
    a, b = A.to_dense(), B.to_dense()
    assert (A.shape, A.T.shape, A.blocksize) == (a.shape, a.T.shape, (p, q))
    assert_close((A @ B).to_dense(), a @ b)
    assert_close(A.T.to_dense(), a.T)
    assert_close(A.gram().to_dense(), a.T @ a)
    x, X = torch.rand(n * q, dtype=torch.float64), torch.rand(n * q, 2, dtype=torch.float64)
    y, Y = torch.rand(m * p, dtype=torch.float64), torch.rand(2, m * p, dtype=torch.float64)
    assert_close(A @ x, a @ x)
    assert_close(A @ X, a @ X)
    assert_close(y @ A, y @ a)
    assert_close(Y @ A, Y @ a)
    assert_close((2 * -A).to_dense(), -2 * a)
    assert_close(A.entries().to_dense(), a)
    np.testing.assert_array_equal(A.to_scipy().toarray(), a.numpy())


@given(counts, st.integers(1, 4), sizes, sizes, st.data())
def test_parts_are_slices(m, n, p, q, data):
    A = random_blocks(m, n, (p, q), data.draw(st.integers(0, 99)))
    start, stop = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    assert torch.equal(A.block_columns(start, stop).to_dense(), A.to_dense()[:, q * start : q * stop])
    for i, block in enumerate(A.diagonal_blocks()):
        assert torch.equal(block, A.to_dense()[p * i : p * i + p, q * i : q * i + q])


@pytest.mark.parametrize("size", [(2, 3), (1, 1)])
def test_every_layout_of_torch(size):
    A = random_blocks(3, 4, size)
    for layout in (torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr):
        with torch.sparse.check_sparse_tensor_invariants():
            got = A.to_torch(layout)
        assert got.layout is layout
        assert torch.equal(got if layout is torch.strided else got.to_dense(), A.to_dense())
    assert torch.equal(A.to_torch(torch.sparse_bsc).to_dense(), A.to_dense())
    again = tj.BlockMatrix.from_matrix(A.entries(), size)
    assert again.pattern == A.pattern
    assert torch.equal(again.values, A.values)


def test_two_derivatives_of_products():
    A = random_blocks(3, 3, (2, 2))
    x = torch.rand(6, dtype=torch.float64, requires_grad=True)

    def f(values, x):
        J = A.with_values(values)
        return (J.gram() @ x).sum() + ((J.T @ J).to_dense() @ x).square().sum() + (x @ J).sum()

    values = A.values.clone().requires_grad_()
    assert torch.autograd.gradcheck(f, (values, x))
    assert torch.autograd.gradgradcheck(f, (values, x))


def test_wrong_requests_of_a_block_matrix():
    A = random_blocks(2, 3, (2, 2))
    with pytest.raises(tj.InputError, match=r"shape \(6,\) or \(6, k\)"):
        A @ torch.ones(4, dtype=torch.float64)
    with pytest.raises(tj.InputError, match=r"shape \(4,\) or \(k, 4\)"):
        torch.ones(6, dtype=torch.float64) @ A
    with pytest.raises(tj.InputError, match="in blocks of 2 rows"):
        A @ random_blocks(2, 1, (3, 1))
    with pytest.raises(tj.InputError, match="block columns from 2 up to 9"):
        A.block_columns(2, 9)
    with pytest.raises(tj.InputError, match="blocks"):
        tj.BlockMatrix(A.pattern, A.values.reshape(-1))
    with pytest.raises(tj.PatternError, match="divides"):
        tj.BlockMatrix.from_matrix(A.entries(), (3, 2))
    with pytest.raises(tj.OptionError, match=r"expected: one of torch.sparse_bsr"):
        A.to_torch(torch.jagged)


# ---- plans with a block layout


def pairs(x, w):  # (k, 3), (k, 2) -> (k, 2): each point reads itself and its neighbor, and its own weights
    return w * (x[:, :2] * x[:, 1:] + x.roll(1, 0)[:, :2])


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("layout", [torch.sparse_bsr, torch.sparse_bsc], ids=str)
def test_a_plan_gives_blocks_for_each_input(layout, mode):
    x, w = torch.rand(5, 3, dtype=torch.float64), torch.rand(5, 2, dtype=torch.float64)
    options = {"argnums": (0, 1), "layout": layout, "blocksize": ((2, 3), (2, 2)), "mode": mode}
    plan = tj.plan_jacobian(pairs, x, w, **options)
    J, parts = plan(x, w), plan.matrix(x, w)
    for k, count in ((0, 10), (1, 5)):
        expected = dense_jacobian(pairs, [x, w], k)
        assert J[k].layout is layout
        assert J[k].values().shape == (count, *options["blocksize"][k])
        assert_close(J[k].to_dense(), expected)
        assert_close(parts[k].to_dense(), expected)
    assert "10 of 2 x 3, 5 of 2 x 2" in plan.explain()


def test_one_matrix_over_all_inputs_and_gradients_through_it():
    x, w = torch.rand(4, 2, dtype=torch.float64, requires_grad=True), torch.rand(4, 2, dtype=torch.float64)
    options = {"argnums": (0, 1), "ravel": True, "layout": torch.sparse_bsr, "blocksize": (2, 2)}
    plan = tj.plan_jacobian(lambda x, w: x.flip(1) * w, x, w, **options)
    assert_close(plan(x, w).to_dense(), dense_jacobian(lambda x, w: x.flip(1) * w, [x, w], (0, 1)))
    assert torch.autograd.gradcheck(lambda x: plan.matrix(x, w).gram().to_dense(), x)


def test_a_schur_complement_solves_the_normal_equations():
    bundle = generated_bundle(cameras=5, points=30, observations=120)
    r = bundle.residuals(bundle.cameras, bundle.points).reshape(-1)
    options = {"argnums": (0, 1), "layout": torch.sparse_bsr, "blocksize": ((2, 6), (2, 3))}
    C, P = tj.plan_jacobian(bundle.residuals, bundle.cameras, bundle.points, **options).matrix(
        bundle.cameras, bundle.points
    )
    damping = 1e-3
    points = P.gram()
    inverse = points.with_values(torch.linalg.inv(points.diagonal_blocks() + damping * torch.eye(3)))
    W = C.T @ P
    S = C.gram().to_dense() + damping * torch.eye(30) - (W @ inverse @ W.T).to_dense()
    right, below = C.T @ r, P.T @ r
    cameras = torch.linalg.solve(S, right - W @ (inverse @ below))
    step = torch.cat([cameras, inverse @ (below - W.T @ cameras)])
    J = torch.cat([C.to_dense(), P.to_dense()], 1)
    assert_close(step, torch.linalg.solve(J.T @ J + damping * torch.eye(120), J.T @ r), 1e-8)


def test_blocks_take_less_index_memory_than_numbers():
    bundle = generated_bundle(cameras=5, points=30, observations=120)
    args = (bundle.residuals, bundle.cameras, bundle.points)
    by_number = tj.jacobian(*args, argnums=(0, 1), layout=torch.sparse_csr)
    by_block = tj.jacobian(*args, argnums=(0, 1), layout=torch.sparse_bsr, blocksize=((2, 6), (2, 3)))

    def indices(J):
        return sum(matrix.crow_indices().numel() + matrix.col_indices().numel() for matrix in J)

    assert 4 * indices(by_block) < indices(by_number)


def test_a_saved_plan_keeps_its_blocks(tmp_path):
    x, w = torch.rand(4, 3, dtype=torch.float64), torch.rand(4, 2, dtype=torch.float64)
    options = {"argnums": (0, 1), "layout": torch.sparse_bsr, "blocksize": ((2, 3), (2, 2))}
    plan = tj.plan_jacobian(pairs, x, w, **options)
    plan.save(tmp_path / "plan.npz")
    again = tj.load_plan(tmp_path / "plan.npz", pairs)
    assert torch.equal(again(x, w)[0].to_dense(), plan(x, w)[0].to_dense())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": torch.sparse_bsr}, "with blocksize=None"),
        ({"blocksize": (2, 2)}, "a blocksize for sparse_bsr and sparse_bsc"),
        ({"layout": torch.sparse_bsr, "blocksize": 2}, "blocksize=2"),
        ({"layout": torch.sparse_bsr, "blocksize": (2, 0)}, r"blocksize=\(2, 0\)"),
        ({"layout": torch.sparse_bsr, "blocksize": (2, 2, 2)}, r"blocksize=\(2, 2, 2\)"),
        ({"layout": torch.sparse_bsr, "blocksize": ((2, 2),) * 3}, "for 2 inputs"),
        ({"layout": torch.sparse_bsr, "blocksize": ((2, 2),) * 2, "ravel": True}, "ravel=True"),
    ],
)
def test_wrong_block_sizes(options, message):
    x, w = torch.rand(4, 3), torch.rand(4, 2)
    with pytest.raises(tj.OptionError, match=message):
        tj.plan_jacobian(pairs, x, w, argnums=(0, 1), **options)


def test_blocks_that_do_not_fit_are_told_when_the_plan_is_made():
    x, w = torch.rand(4, 3), torch.rand(4, 2)
    with pytest.raises(tj.PatternError, match=r"blocksize=\(2, 5\)"):
        tj.plan_jacobian(pairs, x, w, layout=torch.sparse_bsr, blocksize=(2, 5))
