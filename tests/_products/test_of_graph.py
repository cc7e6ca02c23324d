"""jacobian_of: the Jacobian of tensors that a graph joins."""

from __future__ import annotations

import warnings

import pytest
import torch
from oracles import assert_close, dense_jacobian, joined
from torch.func import jacrev
from torch.nn import functional as F
from wrong_derivatives import Hidden, WrongBatches

import torchjac as tj


def rand(*shape, grad=True):
    return torch.rand(*shape, dtype=torch.float64, requires_grad=grad)


def f(x):  # (2, 3) -> (3, 2, 2)
    return torch.einsum("ai,bi->iab", x, x.sin())


def test_it_is_jacrevs():
    x = rand(2, 3)
    J = tj.jacobian_of(f(x), x)
    assert J.shape == (3, 2, 2, 2, 3)
    assert_close(J, jacrev(f)(x))
    assert_close(tj.jacobian_of(f(x)[0, 0, 0], x), jacrev(f)(x)[0, 0, 0])


def test_trees_and_inputs_in_the_middle_of_the_graph():
    p, q = rand(3), rand(())
    middle = p.exp()
    y = {"a": (middle * q).cumsum(0), "b": (middle[0], p * 2)}
    J = tj.jacobian_of(y, {"m": middle, "q": q})
    assert J["a"]["m"].shape == (3, 3)
    assert_close(J["a"]["m"], torch.tril(q.expand(3, 3)))
    assert_close(J["a"]["q"], middle.cumsum(0))
    assert_close(J["b"][0]["m"], torch.eye(3)[0].double())
    assert not J["b"][1]["m"].any()  # p is behind the middle, not after it
    assert not J["b"][1]["q"].any()


def test_some_outputs_without_graph_are_zero():
    x = rand(4)
    J = tj.jacobian_of((x * 2, torch.ones(3)), x)
    assert_close(J[0], 2 * torch.eye(4).double())
    assert J[1].shape == (3, 4)
    assert not J[1].any()


def test_an_empty_output():
    x = rand(4)
    assert tj.jacobian_of(x[:0] * 2, x).shape == (0, 4)


def test_dtypes_are_promoted():
    x, z = rand(5), torch.rand(2, requires_grad=True)
    J = tj.jacobian_of(x.float() * z[0], (x, z))
    assert [block.dtype for block in J] == [torch.float64, torch.float32]
    assert_close(J[1][:, 0], x.float())


def test_large_rows_come_in_chunks():
    x = rand(1_750_000)  # of products with so many numbers, two are computed at once
    y = x.reshape(7, -1).square().sum(1)
    passes = []
    y.register_hook(lambda grad: passes.append(1))
    assert torch.equal(tj.jacobian_of(y, x), torch.block_diag(*(2 * x).reshape(7, -1)))
    assert len(passes) == 3 + 4  # two rows alone and together, to compare them, and then four chunks


def test_results_follow_grad_mode_and_the_graph_is_kept():
    x, w = rand(2, 3), rand(3)
    y = f(x * w)
    J = tj.jacobian_of(y, x)
    with torch.no_grad():
        assert not tj.jacobian_of(y, x).requires_grad
    got = torch.autograd.grad(J.square().sum(), (x, w))
    expected = torch.autograd.grad(jacrev(lambda x: f(x * w))(x).square().sum(), (x, w))
    for mine, theirs in zip(got, expected, strict=True):
        assert_close(mine, theirs)


def test_gradients_through_layer_norm():
    x = rand(2, 4)
    g = lambda x: F.layer_norm(x, (4,))  # noqa: E731  # one line
    got = torch.autograd.grad(tj.jacobian_of(g(x), x).square().sum(), x)[0]
    expected = torch.autograd.grad(dense_jacobian(g, (x,), create_graph=True).square().sum(), x)[0]
    assert_close(got, expected)


def test_parameters_of_a_module():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    inputs, params = rand(5, 3, grad=False), dict(net.named_parameters())
    y = net(inputs)
    J = tj.jacobian_of(y, params)
    g, own = tj.functional(net)
    assert list(J) == list(own)
    assert_close(joined(J, y, params), dense_jacobian(g, (own, inputs)))


@pytest.mark.parametrize(
    ("function", "reason"), [(Hidden, "PyTorch said"), (WrongBatches, "batches of them are wrong")]
)
def test_one_at_a_time_where_batches_fail(function, reason):
    x = rand(5)
    y = function.apply(x)
    with torch.no_grad(), pytest.warns(tj.TorchjacWarning, match=reason):
        J = tj.jacobian_of(y, x)
    assert_close(J, torch.diag(x.exp()))


def test_wrong_gradients_of_batches_are_found():
    x = rand(5)
    y = WrongGradient.apply(x)
    with pytest.warns(tj.TorchjacWarning, match="gradients through batches of them are wrong"):
        J = tj.jacobian_of(y, x)
    assert_close(torch.autograd.grad(J.sum(), x)[0], x.exp())


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        if torch._C._functorch.is_legacy_batchedtensor(g):
            x = 2 * x - x.detach()
        return g * x.exp()


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (lambda x: (x.detach() * 2, x), "y has no graph"),
        (lambda x: (x * 2, x.detach()), "does not require grad"),
        (lambda x: ((x * 2).long(), x), "y holds int64"),
        (lambda x: ((), x), "y holds no tensors"),
        (lambda x: (torch.complex(x, x), x), "y holds complex"),
    ],
)
def test_what_is_refused(made, complaint):
    with pytest.raises(tj.InputError, match=complaint):
        tj.jacobian_of(*made(rand(3)))


def test_a_graph_that_was_freed():
    x = rand(6)
    y = x.exp()
    y.sum().backward()
    with pytest.raises(tj.InputError, match="the graph of y was freed"):
        tj.jacobian_of(y, x)


def test_nothing_in_common_gives_zeros_and_says_so():
    with pytest.warns(tj.TorchjacWarning, match="no element of y depends on x"):
        assert not tj.jacobian_of(rand(3) * 2, rand(2)).any()


def test_no_warnings_where_all_is_well():
    x = rand(9)
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)
        tj.jacobian_of(x.cumsum(0), x)
