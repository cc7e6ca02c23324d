"""The main job on whole problems: pattern, number of products, and values against independent references."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_close, dense_jacobian
from torch.nn import functional as F

import torchjac as tj
from torchjac.cli.demo.problems import brusselator, burgers, mesh_assembly, triangle_mesh


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def assert_products_agree(f, x, J, count=3):
    """J v equals torch.func.jvp for random v."""
    for _ in range(count):
        v = torch.randn_like(x)
        expected = torch.func.jvp(f, (x,), (v,))[1].reshape(-1)
        assert_close((J @ v.reshape(-1, 1))[:, 0], expected)


def neighbours(n):
    """Five points of a periodic grid as a sparse matrix."""
    ring = scipy.sparse.csr_array(np.roll(np.eye(n), 1, 1) + np.roll(np.eye(n), -1, 1))
    one = scipy.sparse.eye_array(n)
    return scipy.sparse.kron(ring, one) + scipy.sparse.kron(one, ring) + scipy.sparse.eye_array(n * n)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_brusselator(mode):
    n = 128
    plan = tj.plan_jacobian(brusselator, rand(2, n, n), ravel=True, layout=torch.sparse_csr, mode=mode)
    own, other = neighbours(n), scipy.sparse.eye_array(n * n)
    exact = tj.SparsityPattern.from_scipy(scipy.sparse.block_array([[own, other], [other, own]]))
    assert plan.pattern == exact
    assert plan.pattern.nnz == 196_608
    assert plan.pattern.scope == "global"
    assert plan.num_products <= 12
    for x in (rand(2, n, n), 3 * rand(2, n, n)):
        assert_products_agree(brusselator, x, plan(x))


def test_burgers_by_convolution():
    n = 500
    x = rand(n)
    plan = tj.plan_jacobian(burgers, x, layout=torch.sparse_csr)
    band = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 1
    assert plan.pattern == tj.SparsityPattern.from_dense(band)
    assert plan.num_products == 3
    assert_products_agree(burgers, x, plan(x))
    assert_close(plan(x[:] + 1).to_dense(), dense_jacobian(burgers, (x + 1,)))


def test_assembly_on_a_triangle_mesh():
    residual, (_, triangles) = mesh_assembly(12), triangle_mesh(12)
    x = rand(144)
    plan = tj.plan_jacobian(residual, x, layout=torch.sparse_csc)
    rows, columns = (
        np.concatenate([triangles.numpy()[:, [i, j][k]] for i in range(3) for j in range(3)]) for k in (0, 1)
    )
    assert plan.pattern == tj.SparsityPattern.from_coo(rows, columns, (144, 144))
    assert_close(plan(x).to_dense(), dense_jacobian(residual, (x,)))


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (5, 2), (4, 4), (1, 3)])
def test_a_network_over_a_batch_is_block_diagonal(inputs, outputs):
    net = torch.nn.Sequential(torch.nn.Linear(inputs, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs)).double()
    x = rand(50, inputs)
    plan = tj.plan_jacobian(net, x, ravel=True)
    assert plan.pattern == tj.SparsityPattern.from_dense(np.kron(np.eye(50), np.ones((outputs, inputs))))
    assert plan.num_products == min(inputs, outputs)
    each = torch.func.vmap(torch.func.jacrev(net))(x)
    assert_close(plan(x), torch.block_diag(*each))


def test_convolutional_network():
    weights = [0.3 * torch.randn(4, 2, 3, 3, dtype=torch.float64), 0.3 * torch.randn(1, 4, 3, 3, dtype=torch.float64)]

    def f(x):
        return F.conv2d(F.softplus(F.conv2d(x, weights[0], padding=1)), weights[1], padding=1)

    x = rand(1, 2, 9, 8)
    near = [np.abs(np.subtract.outer(np.arange(s), np.arange(s))) <= 2 for s in (9, 8)]
    plan = tj.plan_jacobian(f, x, ravel=True)
    np.testing.assert_array_equal(plan.pattern.to_dense().numpy(), np.tile(np.kron(*near), 2))
    assert_close(plan(x), dense_jacobian(f, (x,)))


def test_a_dense_pattern_does_not_take_m_times_n_memory():
    pattern = tj.jacobian_sparsity(lambda x: x.sum().sin() * torch.ones_like(x), torch.rand(200_000))
    assert pattern.nnz == 200_000**2
    assert pattern.index_sets[2].size == 200_000


@st.composite
def programs(draw):
    """A random program of gathers, scatters, shifts and products on 6 numbers, and its name."""
    steps = []
    for _ in range(draw(st.integers(1, 5))):
        index = torch.tensor(draw(st.lists(st.integers(0, 5), min_size=6, max_size=6)))
        shift = draw(st.integers(-2, 2))
        steps.append(draw(st.sampled_from([
            lambda y, x, i=index: y[i],
            lambda y, x, i=index: torch.zeros_like(y).index_add(0, i, y),
            lambda y, x, i=index: y.scatter_add(0, i, x),
            lambda y, x, i=index: y.index_copy(0, i[:1], x[:1] * y[1:2]),
            lambda y, x, s=shift: y.roll(s) * x,
            lambda y, x: torch.where(y > 0.5, y * x, y.flip(0)),
            lambda y, x: torch.cat([y[2:].sin(), x[:2]]),
            lambda y, x: y.reshape(2, 3).t().reshape(-1) + x,
            lambda y, x: (y.reshape(3, 2) * x.reshape(3, 2).sum(1, keepdim=True)).reshape(-1),
        ])))  # fmt: skip
    return steps


@settings(max_examples=60)
@given(programs(), st.sampled_from(["auto", "forward", "reverse"]), st.sampled_from([torch.strided, torch.sparse_csc]))
def test_random_programs(steps, mode, layout):
    def f(x):
        y = x
        for step in steps:
            y = step(y, x)
        return y

    x = rand(6)
    expected = dense_jacobian(f, (x,))
    pattern = tj.jacobian_sparsity(f, x)
    assert not ((expected != 0) & ~pattern.to_dense()).any()
    assert pattern.scope == "global"
    J = tj.jacobian(f, x, mode=mode, layout=layout)
    assert_close(J if layout is torch.strided else J.to_dense(), expected)
