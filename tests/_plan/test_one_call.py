"""One Jacobian from nothing: f runs once where it is dense, and what is returned is what a plan returns."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_close, dense_jacobian
from torch import nn

import torchjac as tj


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def network(*widths):
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers).double().requires_grad_(False)


class Counted:
    """f, and how often it ran."""

    def __init__(self, f):
        self.f, self.runs = f, 0

    def __call__(self, *args):
        self.runs += 1
        return self.f(*args)


@pytest.mark.parametrize("check", ["first", "always", False])
@pytest.mark.parametrize("widths", [(3, 1), (3, 4), (20, 20), (200, 40, 200), (450, 450)])
def test_a_dense_function_runs_once(widths, check):
    f, x = Counted(network(*widths)), rand(widths[0])
    J = tj.jacobian(f, x, check=check)
    assert f.runs == 1
    assert_close(J, dense_jacobian(f.f, (x,)))


def test_forward_products_are_checked_by_the_run_that_was_there():
    f, x = Counted(network(8, 300)), rand(8)
    with torch.no_grad():
        J = tj.jacobian(f, x)
    assert f.runs == 2  # the first says how many outputs there are, and is what the products are compared with
    assert_close(J, dense_jacobian(f.f, (x,)))


def test_a_memory_budget_counts_every_run():
    f, x = Counted(network(20, 20)), rand(20)
    assert_close(tj.jacobian(f, x, memory="1MiB"), dense_jacobian(f.f, (x,)))
    assert f.runs > 2


@settings(deadline=None, max_examples=30)
@given(m=st.integers(0, 7), n=st.integers(1, 7), single=st.booleans(), ravel=st.booleans(), seed=st.integers(0, 99))
def test_it_is_what_a_plan_returns(m, n, single, ravel, seed):
    generator = torch.Generator().manual_seed(seed)
    A, x = torch.randn(m, n, generator=generator), torch.randn(n, generator=generator)
    x = {"a": x if single else x.double(), "b": torch.randn(2, 1, generator=generator)}

    def f(x):
        return {"y": (A.to(x["a"].dtype) @ x["a"]).sin(), "z": (x["b"] * x["a"].sum(), x["b"].mean())}

    got, plan = tj.jacobian(f, x, ravel=ravel), tj.plan_jacobian(f, x, ravel=ravel)
    flat, spec = torch.utils._pytree.tree_flatten(got)
    expected, same = torch.utils._pytree.tree_flatten(plan(x))
    assert spec == same
    for mine, theirs in zip(flat, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert_close(mine, theirs, 1e-5 if single else 1e-12)


def test_random_numbers_are_drawn_as_by_one_call():
    x = torch.ones(40, dtype=torch.float64)
    for f in (nn.Dropout(0.5), lambda x: nn.functional.dropout(network(40, 450)(x), 0.5)):
        torch.manual_seed(1)
        J = tj.jacobian(f, x)
        after = torch.get_rng_state()
        torch.manual_seed(1)
        expected = dense_jacobian(f, (x,)) if isinstance(f, nn.Dropout) else None
        torch.manual_seed(1)
        f(x)
        assert torch.equal(torch.get_rng_state(), after)
        if expected is not None:
            assert_close(J, expected)


def test_statistics_of_a_batch_are_counted_once():
    f = nn.BatchNorm1d(3).double().requires_grad_(False)
    tj.jacobian(f, rand(4, 3))
    assert f.num_batches_tracked == 1


def test_of_a_function_that_is_another_at_every_call_it_is_that_of_its_call():
    calls, x = itertools.count(1), rand(30)
    assert_close(tj.jacobian(lambda x: next(calls) * x, x), torch.eye(30, dtype=x.dtype))
    assert next(calls) == 2


class Twice(torch.autograd.Function):
    """Exponential, with batches that come out wrong."""

    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0] * (2 if torch._C._functorch.is_batchedtensor(g) else 1)


class NoBatches(Twice):
    """Exponential, with a backward that works on numbers."""

    @staticmethod
    def backward(ctx, g):
        return torch.from_numpy(g.detach().numpy() * ctx.saved_tensors[0].detach().numpy())


@pytest.mark.parametrize("f", [Twice.apply, NoBatches.apply])
def test_batches_that_are_wrong_or_refused_are_left_and_said(f):
    x = rand(20)
    with pytest.warns(tj.TorchjacWarning, match="products run "):
        J = tj.jacobian(f, x)
    assert_close(J, torch.diag(x.exp()))
    with warnings.catch_warnings():  # a few rows run one by one anyway
        warnings.simplefilter("error", tj.TorchjacWarning)
        assert_close(tj.jacobian(f, x[:4]), torch.diag(x[:4].exp()))


def test_sums_that_cancel_and_derivatives_that_are_infinite():
    x = torch.tensor([0.0, 1.0, 4.0, 9.0, 16.0, 25.0], dtype=torch.float64)
    assert_close(tj.jacobian(torch.sqrt, x)[1:, 1:], torch.diag(0.5 / x[1:].sqrt()))
    y = torch.rand(40)  # in single precision, where every column of J sums up to rounding errors
    A = torch.randn(40, 40, generator=torch.Generator().manual_seed(0))
    assert_close(tj.jacobian(lambda y: (A @ y) * 1e4 - (A @ y) * 1e4 + y, y), torch.eye(40), 1e-2)


@pytest.mark.parametrize("n", [3, 20, 200])
def test_inside_transforms_and_inference_mode(n):
    net, x = network(n, n), rand(n)
    expected = dense_jacobian(net, (x,))
    each = torch.vmap(lambda x: tj.jacobian(net, x, check=False))(torch.stack([x, 2 * x]))
    assert_close(each[0], expected)
    weights = rand(n, n)
    slope = torch.func.grad(lambda x: (tj.jacobian(net, x, check=False) * weights).sum())(x)
    y = x.clone().requires_grad_()
    assert_close(slope, torch.autograd.grad((tj.jacobian(net, y) * weights).sum(), y)[0])
    with torch.inference_mode():
        assert_close(tj.jacobian(net, x * 1), expected)


@pytest.mark.parametrize("n", [3, 20, 450])
def test_gradients_by_inputs_and_parameters(n):
    net, x = network(n, n).requires_grad_(), rand(n).requires_grad_()
    mine = torch.autograd.grad(tj.jacobian(net, x).square().sum(), [x, *net.parameters()], allow_unused=True)
    theirs = torch.autograd.grad(
        dense_jacobian(net, (x,), create_graph=True).square().sum(), [x, *net.parameters()], allow_unused=True
    )
    for a, b in zip(mine, theirs, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.allclose(a, b, 1e-10)


class HalfDead(nn.Module):
    """The rows of its Jacobian are dense in front, and zero behind, at any input."""

    def __init__(self):
        super().__init__()
        self.net = network(450, 60, 450)

    def forward(self, x):
        return (self.net(x) + torch.linspace(4, -4, 450, dtype=x.dtype).clamp(-2, 2)).relu()


@pytest.mark.parametrize(
    "f",
    [network(450, 450), HalfDead(), lambda x: x.sin().sum() + x],
    ids=["tanh", "dead units", "a sum everywhere"],
)
def test_rows_without_zeros_are_enough_to_see(f):
    counted, x = Counted(f), rand(450) - 0.5
    assert_close(tj.jacobian(counted, x), dense_jacobian(f, (x,)))
    assert counted.runs == 1  # following its dependences would be a second


def test_rows_with_zeros_and_rows_that_cannot_be_computed_at_once_are_not():
    def half(x):  # half of the rows are dense
        return torch.cat([x[:225] * x.sum(), x[225:].square()])

    def one_by_one(x):
        return (diagonal @ x[:, None])[:, 0] * x.roll(1)

    x, diagonal = rand(450), torch.diag(rand(450)).to_sparse_csr()
    for f in (half, one_by_one):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", tj.TorchjacWarning)
            assert_close(tj.jacobian(f, x), dense_jacobian(f, (x,)))


def test_errors_are_those_of_a_plan():
    with pytest.raises(RuntimeError, match="The size of tensor a"):
        tj.jacobian(lambda x: x + torch.ones(5), rand(3))
    with pytest.raises(tj.OutputError, match="integers"):
        tj.jacobian(lambda x: x.argsort(), rand(3))
    with pytest.raises(tj.InputError, match="complex"):
        tj.jacobian(lambda x: x * 1j, rand(3))
