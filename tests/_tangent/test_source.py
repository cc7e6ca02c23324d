"""What is said about a function names the line of it, also where that is not running: in derivatives of its ops."""

from __future__ import annotations

import re

import pytest
import torch
from internals import CannotAccumulateError, FlatFunction, build, detect
from torch.nn import functional as F

import torchjac as tj

GRID = torch.linspace(-1, 1, 18).reshape(1, 3, 3, 2)
PLACES, LENGTHS = torch.tensor([0, 1, 1]), torch.tensor([2, 2])


def distances(x):
    points = x.reshape(-1, 2)
    return torch.cdist(points, points + 1).sum(1)  # named


def sampled(x):
    image = x.reshape(1, 1, 4, 4) ** 2
    return F.grid_sample(image, GRID, align_corners=True).reshape(-1)  # named


def energy(x):
    return sampled(x).square().sum()


@pytest.mark.parametrize(
    ("make", "f"), [(tj.plan_jacobian, distances), (tj.plan_jacobian, sampled), (tj.plan_hessian, energy)]
)
def test_an_op_without_a_forward_formula_is_named_with_its_line(make, f):
    with pytest.warns(tj.TorchjacWarning, match=r"because of f at test_source.py:\d+: .*# named: .*forward AD"):
        plan = make(f, torch.rand(16), mode="accumulate")
    assert re.search(r"stops at f at test_source.py:\d+: .*# named", plan.explain())


def products(x):
    y = x * 2
    return (y.cumprod(0) * 3).sin()  # named


def random(x):
    return x + torch.rand(4)  # named


def segments(x):
    y = x * 1
    return torch.segment_reduce(y, "sum", lengths=LENGTHS) * 2  # named


def embedded(x):
    y = F.embedding(PLACES, x.reshape(2, 2), scale_grad_by_freq=True)  # named
    return y * 2


def ordered(x):
    y = torch.sort(x * x).values  # named
    return y.sin()


@pytest.mark.parametrize("f", [products, random, segments, embedded, ordered])
def test_a_refusal_in_the_backward_of_an_op_names_the_line_of_the_op(f):
    x = torch.rand(4)
    function = FlatFunction(f, (x,))
    function.look((x,))
    pattern = detect(function, (x,))
    with pytest.raises(CannotAccumulateError) as caught:
        build(function, (x,), pattern, "reverse", 10**6)
    assert re.match(r"test_source.py:\d+: .*# named$", caught.value.line)
