"""Derivatives inside of transforms of torch.func: those of torch.func, or those of a plan that was made outside."""

from __future__ import annotations

import pytest
import torch
from oracles import assert_close

import torchjac as tj


def products(x):
    return x[1:] * x[:-1].sin()


def chained(x):
    return (x[1:] * x[:-1] ** 2).sum()


@pytest.fixture
def X():
    return torch.rand(3, 5, dtype=torch.float64)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_vmap_of_jacobian(X, mode):
    expected = torch.stack([torch.func.jacrev(products)(x) for x in X])
    assert_close(torch.vmap(lambda x: tj.jacobian(products, x, mode=mode))(X), expected)
    assert_close(torch.vmap(lambda x: tj.jacobian(products, x, sparsity=None))(X), expected)


def test_gradient_through_jacobian(X):
    expected = torch.func.grad(lambda x: torch.func.jacrev(products)(x).square().sum())(X[0])
    assert_close(torch.func.grad(lambda x: tj.jacobian(products, x).square().sum())(X[0]), expected)


def test_vmap_of_hessian(X):
    expected = torch.stack([torch.func.hessian(chained)(x) for x in X])
    assert_close(torch.vmap(lambda x: tj.hessian(chained, x))(X), expected)


@pytest.mark.parametrize("mode", ["forward", "reverse", "accumulate"])
def test_vmap_of_the_first_call_of_a_plan_and_of_the_next(X, mode):
    plan, expected = (
        tj.plan_jacobian(products, X[0], mode=mode),
        torch.stack([torch.func.jacrev(products)(x) for x in X]),
    )
    for _ in range(2):
        assert_close(torch.vmap(plan)(X), expected)
    assert_close(plan(X[1]), expected[1])


def test_the_first_call_outside_is_checked_although_one_inside_was_not(X):
    plan = tj.plan_jacobian(products, X[0], sparsity=torch.eye(4, 5))
    torch.vmap(plan)(X)
    with pytest.raises(tj.StalePatternError):
        plan(X[0])


@pytest.mark.parametrize("make", [tj.plan_jacobian, tj.plan_hessian])
def test_a_plan_is_refused_with_the_way_out(X, make):
    with pytest.raises(tj.OptionError, match="inside a transform") as refused:
        torch.vmap(lambda x: make(chained, x)(x))(X)
    assert "outside" in refused.value.instead


def test_what_takes_a_plan_is_refused_too(X):
    for options in ({"layout": torch.sparse_csr}, {"entries": "diagonal"}, {"mode": "accumulate"}):
        with pytest.raises(tj.OptionError):
            torch.vmap(lambda x, options=options: tj.jacobian(products, x, **options))(X)
    with pytest.raises(tj.OptionError, match="takes a plan"):
        torch.vmap(lambda x: tj.hessian(lambda x: (chained(x), x), x, has_aux=True))(X)
