"""A dense Jacobian that is wanted once: no pattern where it costs more than it saves, the same values everywhere."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import assert_close, dense_jacobian
from torch import nn

import torchjac as tj
import torchjac._plan.kinds.jacobian as plan_module
from torchjac._detection.dense_or_not import _UntilFull, pattern_or_full
from torchjac._detection.detect import detect
from torchjac._function.flat import FlatFunction


def network(*widths):
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers).double().requires_grad_(False)


def rand(n):
    return torch.rand(n, dtype=torch.float64)


def looked(f, n):
    function, args = FlatFunction(f, (rand(n),)), (rand(n),)
    function.look(args)
    return pattern_or_full(function, args)


def stencil(x):
    return x * x.roll(1) + x.roll(-1).sin()


@pytest.mark.parametrize(("f", "n"), [(stencil, 40), (lambda x: x[:30].square(), 5000), (lambda x: x[:0], 3)])
def test_few_or_small_vjps_are_not_worth_a_look(monkeypatch, f, n):
    monkeypatch.setattr(sys.modules[_UntilFull.__module__], "detect", lambda *_: pytest.fail("looked"))
    assert looked(f, n).nnz == looked(f, n).shape[0] * n


def test_a_sparse_pattern_is_found_where_it_saves():
    assert looked(stencil, 1000) == tj.jacobian_sparsity(stencil, rand(1000))

    def arrow(x):  # one dense row: not an all-to-all layer
        return torch.cat([x.square().sum()[None], x[1:] * x[0]])

    assert looked(arrow, 1000) == tj.jacobian_sparsity(arrow, rand(1000))


@pytest.mark.parametrize("widths", [(300, 200, 300), (300, 8, 300, 300), (64, 4096), (4096, 128)])
def test_nothing_is_followed_beyond_an_all_to_all_layer(widths):
    net, seen = network(*widths), []

    class After(torch.autograd.Function):  # would be noted: nothing is known about it
        @staticmethod
        def forward(x):
            seen.append(x)
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def jvp(ctx, t):
            raise AssertionError("followed")

    pattern = looked(lambda x: After.apply(net(x)), widths[0])
    assert pattern.nnz == widths[0] * widths[-1]
    assert len(seen) == 1  # the run that says how many outputs there are
    x = rand(widths[0])  # and PyTorch's levels are as they were
    assert_close(torch.func.jvp(torch.sin, (x,), (x,))[1], x.cos() * x)


def test_a_function_that_catches_everything_gets_the_full_pattern():
    net = network(300, 300)

    def f(x):
        try:
            return net(x)
        except BaseException:  # what a trace ends with comes by here
            return x

    assert looked(f, 300).nnz == 90_000


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_what_is_found_is_never_less_than_the_truth(seed):
    generator = torch.Generator().manual_seed(seed)
    m, n, k = torch.randint(400, 450, (3,), generator=generator).tolist()
    first = torch.randn(k, n, generator=generator) * (torch.rand(k, 1, generator=generator) < 0.7)
    picked = torch.randint(0, n, (m,), generator=generator)

    def f(x):
        y = (first.to(x) @ x).tanh()
        return x[picked] * y.roll(3)[torch.arange(m) % k]

    found, exact = looked(f, n), detect(FlatFunction(f, (rand(n),)), (rand(n),))
    assert not (exact.to_dense() & ~found.to_dense()).any()


@pytest.mark.parametrize(("f", "n"), [(stencil, 30), (stencil, 400), (network(300, 200, 250), 300)])
def test_one_jacobian_is_that_of_a_plan(f, n):
    x = rand(n)
    assert_close(tj.jacobian(f, x), dense_jacobian(f, (x,)))
    assert_close(tj.jacobian(f, x), tj.plan_jacobian(f, x)(x))


def test_plans_sparse_layouts_and_those_who_ask_always_get_the_pattern(monkeypatch):
    monkeypatch.setattr(plan_module, "pattern_or_full", lambda *_: pytest.fail("only had a look"))
    x = rand(30)
    assert tj.plan_jacobian(stencil, x).pattern.nnz == 90
    assert tj.jacobian(stencil, x, layout=torch.sparse_csr).values().numel() == 90
    tj.jacobian(stencil, x, sparsity="detect")
    tj.jacobian(stencil, x, mode="forward")


def test_no_forward_mode_where_nothing_was_looked_at():
    matrix = torch.eye(4, dtype=torch.float64) * 3 + 0.1
    x = matrix.reshape(-1)

    def f(x):  # a formula whose forward derivative is of a triangle only
        return torch.linalg.cholesky(x.reshape(4, 4)).reshape(-1)

    assert_close(tj.jacobian(f, x), dense_jacobian(f, (x,)))


def test_a_single_jacobian_is_not_timed_before_it_is_computed(monkeypatch):
    from torchjac._products.seeded import Side

    monkeypatch.setattr(Side, "unit_cost", lambda *_: pytest.fail("timed"))
    net, x = network(300, 32, 300), rand(300)
    assert_close(tj.jacobian(net, x), dense_jacobian(net, (x,)))
