"""Chains of ops and costs of lines."""

from __future__ import annotations

import pytest
import torch
from lines import line_of

import torchjac as tj


def f(x):
    y = x[1:] * x[:-1]
    z = y.cumsum(0)
    return torch.cat([z.flip(0), x[:1] ** 2])


def sources(steps):
    return [step.line.split(": ")[1] for step in steps]


def test_why_tells_the_ops_and_lines_between_an_input_and_an_output():
    pattern = tj.jacobian_sparsity(f, torch.rand(5))
    source = ["y = x[1:] * x[:-1]", "z = y.cumsum(0)", "return torch.cat([z.flip(0), x[:1] ** 2])"]
    assert list(dict.fromkeys(sources(pattern.why(0, 0)))) == source
    assert [step.op for step in pattern.why(0, 0)] == ["mul", "add", "cumsum", "flip", "cat"]
    assert [step.op for step in pattern.why(4, 0)][-1] == "cat"
    assert list(dict.fromkeys(step.line for step in pattern.why(0, 2))) == [line_of(f, n) for n in (1, 2, 3)]


def test_every_entry_has_a_chain():
    pattern = tj.jacobian_sparsity(f, torch.rand(5))
    for i, j in pattern.to_dense().nonzero().tolist():
        assert pattern.why(i, j)


def test_why_follows_the_backward_too():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    def g(x):
        y = Twice.apply(x)
        return y[1:] + y[:-1]

    steps = tj.jacobian_sparsity(g, torch.rand(3)).why(0, 1)
    assert any("return grad * 2" in step.line for step in steps)
    assert "return y[1:] + y[:-1]" in sources(steps)


def test_why_refuses_what_is_no_entry():
    pattern = tj.jacobian_sparsity(f, torch.rand(5))
    with pytest.raises(tj.PatternError, match=r"\(4, 3\) is not an entry"):
        pattern.why(4, 3)
    with pytest.raises(tj.PatternError, match="not traced from a function"):
        tj.SparsityPattern.from_coo([0], [0], (1, 1)).why(0, 0)


def test_costs_rank_the_lines_that_made_it_dense():
    costs = tj.jacobian_sparsity(f, torch.rand(50)).costs()
    assert "cumsum" in costs[0].line
    assert costs[0].nonzeros == sum(range(2, 51)) - 2 * 49
    assert [c.nonzeros for c in costs] == sorted((c.nonzeros for c in costs), reverse=True)
    assert "y = x[1:] * x[:-1]" in {c.line.split(": ")[1] for c in costs}
