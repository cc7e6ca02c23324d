"""Plans of some of the entries: the right numbers, in the products that they need, and refused where they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_close, dense_jacobian
from torch import nn

import torchjac as tj

MODES = ["auto", "forward", "reverse"]


def chain(x):
    return x * torch.roll(x, 1) + torch.sin(x) * torch.roll(x, -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", MODES)
def test_a_diagonal_is_that_of_the_dense_jacobian(mode, dtype):
    x = torch.rand(10, dtype=dtype)
    plan = tj.plan_jacobian(chain, x, entries="diagonal", mode=mode)
    assert (plan.num_products, plan.pattern.nnz) == (2, 10)
    assert_close(plan.values(x), dense_jacobian(chain, [x]).diagonal())
    assert_close(plan.matrix(x).diagonal(), plan.values(x))
    assert_close(plan(x), torch.diag(plan.values(x)))
    assert "10 of 30 are wanted" in plan.explain()


@settings(max_examples=30)
@given(st.integers(1, 7), st.integers(1, 7), st.data(), st.sampled_from(MODES))
def test_any_entries_of_any_matrix(m, n, data, mode):
    cells = data.draw(st.sets(st.integers(0, m * n - 1)))
    wanted = data.draw(st.sets(st.integers(0, m * n - 1)))
    A = torch.zeros(m * n, dtype=torch.float64)
    A[list(cells)] = torch.rand(len(cells), dtype=torch.float64) + 1
    A = A.reshape(m, n)
    rows, columns = A.nonzero(as_tuple=True)

    def f(x):
        return x.new_zeros(m).index_add(0, rows, A[rows, columns] * x[columns])

    entries = tj.SparsityPattern.from_coo([k // n for k in wanted], [k % n for k in wanted], (m, n))
    x = torch.rand(n, dtype=torch.float64)
    plan = tj.plan_jacobian(f, x, entries=entries, mode=mode)
    assert_close(plan(x), A * entries.to_dense())
    assert plan.pattern.nnz == len(cells & wanted)


@pytest.mark.parametrize("mode", MODES)
def test_the_divergence_of_a_pointwise_field_takes_d_products_and_trains_it(mode):
    f = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    x = torch.rand(4, 5, 3, dtype=torch.float64)
    plan = tj.plan_jacobian(f, x, entries="diagonal", mode=mode)
    assert plan.num_products == 3
    divergence = plan.values(x).reshape(x.shape).sum(-1)
    J = torch.stack([dense_jacobian(f, [row.requires_grad_()], create_graph=True) for row in x.reshape(-1, 3)])
    expected = J.diagonal(dim1=1, dim2=2).sum(-1).reshape(4, 5)
    assert_close(divergence, expected)
    parameters = [*f.parameters()][:-1]
    got = torch.autograd.grad(divergence.square().sum(), parameters)
    for g, e in zip(got, torch.autograd.grad(expected.square().sum(), parameters), strict=True):
        assert_close(g, e)


def test_bands_and_blocks_are_patterns():
    x = torch.rand(12, dtype=torch.float64)
    i = np.arange(12)
    J = dense_jacobian(lambda x: x.cumsum(0) * x, [x])
    for wanted in (i[:, None] - i == 1, i[:, None] // 3 == i // 3):
        plan = tj.plan_jacobian(lambda x: x.cumsum(0) * x, x, entries=wanted, layout=torch.sparse_csr)
        assert_close(plan(x).to_dense(), J * torch.from_numpy(wanted))


def test_a_pattern_that_may_miss_what_is_wanted_is_not_asked():
    x = torch.rand(6, dtype=torch.float64)
    off = tj.SparsityPattern.from_dense(np.eye(6, k=1) + np.eye(6, k=5) + np.eye(6, k=-1) + np.eye(6, k=-5))
    plan = tj.plan_jacobian(chain, x, entries="diagonal", sparsity=off)
    assert_close(plan.values(x), dense_jacobian(chain, [x]).diagonal())


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_an_entry_that_is_not_alone_is_stale(mode):
    x = torch.rand(50, dtype=torch.float64)
    plan = tj.plan_jacobian(chain, x, entries="diagonal", sparsity=np.eye(50), mode=mode)
    with pytest.raises(tj.StalePatternError, match="shares its product") as caught:
        plan.values(x)
    assert caught.value.entry[0] == caught.value.entry[1]


class WrongForward(torch.autograd.Function):
    """sin, with a forward formula that is 1% off."""

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()

    @staticmethod
    def jvp(ctx, tangent):
        return 1.01 * tangent * ctx.saved_tensors[0].cos()

    generate_vmap_rule = True


def test_a_wrong_formula_is_found_or_left():
    def f(x):
        return WrongForward.apply(x) * torch.roll(x, 1)

    x = torch.rand(8, dtype=torch.float64)
    with pytest.raises(tj.DerivativeMismatchError, match="one product"), pytest.warns(tj.TorchjacWarning):
        tj.plan_jacobian(f, x, entries="diagonal", mode="forward").values(x)
    plan = tj.plan_jacobian(f, x, entries="diagonal", mode="auto")
    assert_close(plan.values(x), x.cos() * torch.roll(x, 1))


def test_gradients_that_forward_mode_gets_wrong_come_from_reverse_mode():
    f = nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2)).double()
    x = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(tj.DerivativeMismatchError, match="gradient"):
        tj.plan_jacobian(f, x, entries="diagonal", mode="forward").values(x)
    plan = tj.plan_jacobian(f, x, entries="diagonal")
    assert torch.autograd.gradcheck(plan.values, x)


def test_nothing_wanted_takes_no_products():
    x = torch.rand(5)
    plan = tj.plan_jacobian(chain, x, entries=np.zeros((5, 5)))
    assert (plan.num_products, plan.values(x).shape) == (0, (0,))


def test_wrong_requests(tmp_path):
    x = torch.rand(5)
    with pytest.raises(tj.OptionError, match="entries='trace'"):
        tj.plan_jacobian(chain, x, entries="trace")
    with pytest.raises(tj.PatternError, match=r"entries of shape \(4, 4\)"):
        tj.plan_jacobian(chain, x, entries=np.eye(4))
    with pytest.raises(tj.OptionError, match="bidirectional"):
        tj.plan_jacobian(chain, x, entries="diagonal", mode="bidirectional")
    with pytest.raises(tj.FileError, match="some of the entries"):
        tj.plan_jacobian(chain, x, entries="diagonal").save(tmp_path / "plan.npz")


@pytest.mark.parametrize("entries", ["diagonal", "pattern"])
def test_a_program_of_some_entries_is_checked_too(entries):
    x = torch.rand(6, dtype=torch.float64)

    def f(x):
        return x * x.roll(1) * x.roll(2)

    wanted = "diagonal" if entries == "diagonal" else torch.ones(6, 6).triu()
    plan = tj.plan_jacobian(f, x, mode="accumulate", entries=wanted, layout=torch.sparse_csr)
    dense = dense_jacobian(f, (x,))
    assert plan.mode == "accumulate"
    assert_close(plan(x).to_dense(), dense.diag().diag() if entries == "diagonal" else dense.triu())


def test_every_entry_of_a_diagonal_has_a_value():
    x = torch.rand(5, dtype=torch.float64)
    assert_close(tj.plan_jacobian(lambda x: x.roll(1) * 2, x, entries="diagonal").values(x), torch.zeros_like(x))
    energy = tj.plan_hessian(lambda x: (x[1:] * x[:-1] ** 2).sum(), x, entries="diagonal")
    assert_close(energy.values(x), torch.cat([2 * x[1:], x.new_zeros(1)]))
