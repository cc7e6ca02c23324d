"""One run of f, and who may use it."""

from __future__ import annotations

import torch
from internals import FlatFunction, Run
from oracles import assert_close, dense_jacobian

x = torch.rand(5, dtype=torch.float64)


def run_of(f, *args):
    run = Run.first(FlatFunction(f, args), args)
    assert run is not None
    return run


def test_products_are_those_of_the_run():
    run = run_of(lambda x: x.cumsum(0).sin(), x)
    J = dense_jacobian(lambda x: x.cumsum(0).sin(), (x,))
    assert_close(run.reverse.batch(torch.eye(5, dtype=x.dtype)), J)
    assert_close(run.reverse.one(x), x @ J)


def test_it_stands_for_the_same_function_at_the_very_same_arguments_alone():
    run = run_of(lambda x, k: x * k, x, 3)
    assert run.again((x, 3)) is run.reverse
    assert run.again((x.clone(), 3)) is None
    assert run.again((x, 4)) is None
    run.function.f = torch.mul
    assert run.again((x, 3)) is None


def test_it_stands_for_its_random_numbers_too():
    torch.manual_seed(0)
    begin = torch.get_rng_state()
    run = run_of(torch.nn.Dropout(0.5), x)
    end = torch.get_rng_state()
    assert not torch.equal(begin, end)
    run.before.replay()
    assert torch.equal(torch.get_rng_state(), begin)
    run.again((x,))
    assert torch.equal(torch.get_rng_state(), end)


def test_no_run_inside_a_transform_nor_where_f_raises():
    def refuses(x):
        torch.rand(1)
        raise RuntimeError("not today")

    state = torch.get_rng_state()
    assert Run.first(FlatFunction(refuses, (x,)), (x,)) is None
    assert torch.equal(torch.get_rng_state(), state)
    found = []
    torch.vmap(lambda x: found.append(Run.first(FlatFunction(torch.sin, (x,)), (x,))) or x)(x[None])
    assert found == [None]


def test_who_may_differentiate_products_is_known():
    w = torch.rand(5, dtype=torch.float64, requires_grad=True)
    assert not run_of(torch.sin, x).reverse.differentiable
    assert run_of(torch.sin, x.clone().requires_grad_()).reverse.differentiable
    assert run_of(lambda x: x * w, x).reverse.differentiable
    with torch.no_grad():
        assert not run_of(lambda x: x * w, x).reverse.differentiable
