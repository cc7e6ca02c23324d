"""One rule for rounding: what it lets pass, what it does not, and what it says of numbers that are not finite."""

from __future__ import annotations

import math

import pytest
import torch
from internals import close, largest, near, tolerance

ONE = torch.ones(1)


@pytest.mark.parametrize("factor", [1.0, 8.0, 10.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_difference_counts_from_the_tolerance_on(dtype, factor):
    allowed, x = tolerance(torch.finfo(dtype).eps, factor), torch.ones(1, dtype=dtype)
    assert near(x + 0.9 * allowed, x, x, factor=factor)
    assert not near(x + 1.1 * allowed, x, x, factor=factor)


def test_a_floor_is_allowed_besides():
    assert near(ONE + 0.5, ONE, 0 * ONE, floor=0.5)
    assert not near(ONE + 0.5, ONE, 0 * ONE)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_never_near_and_close_only_where_it_is_expected(number):
    assert not near(ONE * number, ONE * number, ONE)
    assert not close(ONE * number, ONE, ONE)
    assert close(ONE, ONE * number, ONE)
    assert close(ONE * number, ONE * math.nan, ONE)


@pytest.mark.parametrize(("numbers", "most"), [([1.0, -3.0, math.inf, math.nan], 3.0), ([math.nan], 0.0), ([], 0.0)])
def test_the_largest_is_of_what_is_finite(numbers, most):
    assert largest(torch.tensor(numbers)) == most
