"""Modules as functions of their parameters, and dataclasses as trees."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from oracles import assert_close, dense_jacobian, joined
from torch.func import jacrev

import torchjac as tj


def rand(*shape, grad=True):
    return torch.rand(*shape, dtype=torch.float64, requires_grad=grad)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.last = torch.nn.Linear(4, 2, bias=False)

    def forward(self, x, scale=1.0):
        return scale * self.last(torch.tanh(self.norm(self.first(x))))


def test_functional_is_the_module():
    net, x = Net().double(), rand(6, 3, grad=False)
    g, params = tj.functional(net.eval())
    assert list(params) == ["first.weight", "first.bias", "norm.weight", "norm.bias", "last.weight"]
    assert not any(p.requires_grad for p in params.values())
    assert_close(g(params, x, scale=2.0), net(x, 2.0))
    J = tj.jacobian(g, params, x)
    assert J["norm.bias"].shape == (6, 2, 4)
    assert_close(joined(J, net(x), params), dense_jacobian(g, (params, x)))
    some = {"last.weight": params["last.weight"]}
    assert_close(tj.jacobian(g, some, x)["last.weight"], J["last.weight"])


def test_functional_leaves_statistics_alone_in_training():
    net, x = Net().double().train(), rand(6, 3, grad=False)
    g, params = tj.functional(net)
    before = net.norm.running_mean.clone()
    J = tj.jacobian(g, params, x)
    assert torch.equal(net.norm.running_mean, before)
    assert net.norm.num_batches_tracked == 0
    assert_close(joined(J, net(x), params), dense_jacobian(g, (params, x)))


def test_functional_with_tied_weights():
    net = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)).double()
    net[1].weight = net[0].weight
    g, params = tj.functional(net)
    x = rand(3, grad=False)
    assert list(params) == ["0.weight"]
    assert_close(tj.jacobian(g, params, x)["0.weight"], jacrev(lambda w: w @ w @ x)(params["0.weight"]))


def test_functional_refuses_names_it_does_not_know():
    g, params = tj.functional(Net())
    with pytest.raises(tj.InputError, match=r"write instead: 'norm.weight'"):
        g({"norm.wieght": params["norm.weight"]}, torch.rand(4, 3))
    with pytest.raises(tj.InputError, match=r"expected: a torch\.nn\.Module"):
        tj.functional(torch.sin)


def test_the_jacobian_of_each_sample_takes_a_product_an_output():
    net, x = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double(), rand(6, 3)
    g, params = tj.functional(net)
    own = {name: p.expand(6, *p.shape) for name, p in params.items()}
    plan = tj.plan_jacobian(lambda own: torch.vmap(g)(own, x.detach()).sum(0), own, sparsity=None)
    assert (plan.mode, plan.num_products) == ("reverse", 2)
    whole = tj.jacobian(g, params, x.detach())
    for name, block in plan(own).items():
        assert_close(block.movedim(1, 0), whole[name])


@dataclasses.dataclass
class State:
    position: torch.Tensor
    speed: torch.Tensor


@dataclasses.dataclass
class Unknown:
    position: torch.Tensor


torch.export.register_dataclass(State)


def test_dataclasses_that_are_registered_are_trees():
    state = State(rand(2, grad=False), rand(3, grad=False))

    def step(s):
        return {"next": State(s.position * s.speed[:2], s.speed.cumsum(0))}

    J = tj.jacobian(step, state)
    assert_close(J["next"].position.speed, torch.nn.functional.pad(torch.diag(state.position), (0, 1)))
    assert_close(J["next"].speed.speed, torch.ones(3, 3).double().tril())
    assert tj.jacobian(step, state, layout=torch.sparse_csr)["next"].speed.position.values().numel() == 0
    assert tj.jacobian_sparsity(step, state).nnz == 10
    assert tj.check_jacobian(step, (state,), J)
    assert_close(tj.JacobianOperator(step, state).to_dense(), tj.jacobian(step, state, ravel=True))


def test_what_is_no_tree_says_what_to_write():
    with pytest.raises(tj.InputError, match=r"write instead: torch.export.register_dataclass\(Unknown\)"):
        tj.jacobian(lambda s: s.position, Unknown(rand(2)))
    with pytest.raises(tj.OutputError, match=r"write instead: torch.export.register_dataclass\(Unknown\)"):
        tj.jacobian(Unknown, rand(2))
    with pytest.raises(tj.InputError, match=r"torchjac.functional\(module\)"):
        tj.jacobian(lambda net, x: net(x), torch.nn.Linear(2, 2), rand(2))
