"""Columns side by side, written as a compiler likes it, are the same values with the same gradients."""

from __future__ import annotations

import shutil
from collections import Counter

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close

import torchjac as tj
from torchjac._strategies.compiling import interleaving, stages
from torchjac._strategies.compiling.parts import name_of
from torchjac.cli.demo.problems import brusselator, burgers

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def prepared(f, x):
    """(f as a program, the same for a compiler, how often each op is called there)."""
    program = make_fx(f)(x)
    written = stages._prepared(program, [x])
    return program, written, Counter(map(name_of, written.graph.nodes))


def columns(count):
    return lambda x: torch.stack([x * k + k for k in range(count)], -1).reshape(-1)


def parts(x):
    """Two columns and a constant one, of which two are in two parts."""
    ones = torch.full_like(x, 2.0)
    first, second = torch.stack([x, ones]), torch.cat([x * x, -x]).view(2, -1)
    whole = torch.cat([x, x]) * 3
    return torch.stack([first.reshape(-1), whole, second.reshape(-1)], 1).reshape(-1)


def uneven(x):
    first, second = torch.cat([x[:1], x * x]), torch.cat([x[:2], x[1:]])
    return torch.stack([first, second], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize(
    "f", [columns(2), columns(3), columns(5), parts, uneven], ids=["two", "three", "five", "parts", "uneven"]
)
def test_each_value_is_chosen_by_its_column(f, size, dtype):
    if f is uneven and size < 2:
        size = 2
    x = torch.rand(size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    program, written, ops = prepared(f, x)
    assert ops["where"] > 0
    assert torch.equal(written(x), program(x))
    assert torch.equal(written(2 * x), f(2 * x))


def test_columns_in_parts_are_chosen_part_by_part():
    _, _, ops = prepared(parts, torch.rand(4))
    assert ops["where"] == 4  # two of three columns, twice
    assert ops["stack"] == 0


def test_the_program_itself_stays_as_it_is():
    program = make_fx(parts)(torch.rand(4))
    before = program.code
    stages._prepared(program, [torch.rand(4)])
    assert program.code == before


def test_gradients_are_those_of_the_columns():
    x = torch.rand(6, dtype=torch.float64, requires_grad=True)
    _, written, _ = prepared(parts, x.detach())
    w = torch.rand(36, dtype=torch.float64)
    (got,), (expected,) = (torch.autograd.grad((f(x).square() * w).sum(), x) for f in (written, parts))
    assert_close(got, expected, rtol=1e-14, atol=1e-14)


def test_an_undefined_column_leaves_the_others_alone():
    x = torch.tensor([0.0, -1.0, 4.0], dtype=torch.float64, requires_grad=True)

    def f(x):
        return torch.stack([x.sqrt(), x * 2], 1)

    _, written, ops = prepared(f, x.detach())
    assert ops["where"] == 1
    assert_close(written(x), f(x), equal_nan=True)
    (got,) = torch.autograd.grad(written(x)[:, 1].sum(), x)
    assert torch.equal(got[2:], torch.full_like(got[2:], 2.0))


@pytest.mark.parametrize("f", [lambda x: torch.stack([x.sin(), x.sin() * x], 1), columns(40)], ids=["costly", "many"])
def test_columns_that_cost_much_are_transposed_where_there_are_many(f, monkeypatch):
    x = torch.rand(10, dtype=torch.float64)
    _, written, ops = prepared(f, x)
    assert ops["where"] == 0
    assert ops["stack"] == 1  # left alone
    monkeypatch.setattr(interleaving, "_CACHED", 20)
    _, written, ops = prepared(f, x)
    assert (ops["stack"], ops["transpose"]) == ((0, 1) if len(f(x).reshape(-1)) == 20 else (1, 0))
    assert torch.equal(written(2 * x), f(2 * x))


def test_what_is_in_memory_costs_nothing():
    kernel = torch.rand(3, 1, 3, dtype=torch.float64)

    def f(x):
        return torch.stack(list(torch.conv1d(x[None, None], kernel, padding=1)[0]), 1)

    x = torch.rand(8, dtype=torch.float64)
    _, written, ops = prepared(f, x)
    assert ops["where"] == 2
    assert torch.equal(written(x), f(x))


@pytest.mark.parametrize("f", [lambda x: torch.stack([x, x * 2]), lambda x: torch.stack([x[None], x[None] * 2], 1)])
def test_other_stacks_are_left_alone(f):
    _, _, ops = prepared(f, torch.rand(5))
    assert (ops["where"], ops["stack"]) == (0, 1)


@needs_compiler
@pytest.mark.parametrize(("f", "shape"), [(brusselator, (2, 64, 64)), (burgers, (500,))])
def test_compiled_values_of_a_stencil_are_chosen_and_equal_the_eager_ones(f, shape, monkeypatch):
    seen, compile_ = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda graph, **o: (seen.append(graph), compile_(graph, **o))[1])
    x, other = torch.rand(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plan = tj.plan_jacobian(f, x, mode="accumulate", compile=True)
    plan.values(x)
    assert "aten.where.self" in {str(node.target) for graph in seen for node in graph.graph.nodes}
    expected = tj.plan_jacobian(f, x, mode="forward").values(other)
    assert_close(plan.values(other), expected, rtol=1e-12, atol=1e-9)
