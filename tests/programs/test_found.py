"""Programs that once went wrong, each kind of fault by name: now right, or refused with the op that ended it."""

from __future__ import annotations

import pytest
import torch
from accumulation_cases import DIRECTIONS, dense, program
from oracles import assert_close, dense_jacobian
from torch.nn import functional as F

import torchjac as tj
from torchjac._accumulation.errors import NOT_FOLLOWED, CannotAccumulateError

HEAD, TAIL = torch.tensor([0, 2, 1, 3]), torch.tensor([1, 0, 3, 2])


def rand(*shape, dtype=torch.float64, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) + 0.1


def gathers_after_split(x):
    a, b = x.split([4, 4])
    return (a[HEAD] - a[TAIL]) * b[HEAD]


def gathers_after_unbind(x):
    a, b = x.reshape(2, 4).unbind(0)
    return (a[HEAD] - a[TAIL]).sin() * b[HEAD] * b[TAIL]


def stacked_long_sums(x):
    a, b = x.reshape(2, 70).sin().sum(1), (x * x.roll(1)).reshape(2, 70).sum(1)
    return torch.cat([torch.stack([a, b]), torch.stack([b, a])])


def repeated_in_another_order(x):
    a, b = x[:3] * 2, x[3:] * x[:3]
    return torch.cat([a, a, b]) + torch.cat([b, a, a])


def a_constant_written_where_a_mask_says(x):
    y = x * x.flip(0)
    y[x > 0.4] = 3.0
    return y


def long_sums_written_where_a_mask_says(x):
    y = x.reshape(2, 70).sin().sum(1)
    y[y > y.mean()] = 0.5
    return y * y.flip(0)


def a_mask_cast_to_a_mask(x):
    return torch.where((x > 0.5).to(torch.bool), x * 2, x.roll(1))


FOUND = {  # a fault: a program and its input
    "moves of two operands alike took each other's maps (split)": (gathers_after_split, rand(8)),
    "moves of two operands alike took each other's maps (unbind)": (gathers_after_unbind, rand(8)),
    "moves of entries took each other's maps": (stacked_long_sums, rand(140)),
    "moves of the same operands in another order": (repeated_in_another_order, rand(6)),
    "entries and an operand (1, 1) of one number": (lambda x: F.normalize(x), rand(1, 70)),
    "a constant written by a mask": (a_constant_written_where_a_mask_says, rand(6)),
    "a constant written by a mask, tall": (a_constant_written_where_a_mask_says, rand(90)),
    "a constant written by a mask into long sums": (long_sums_written_where_a_mask_says, rand(140)),
    "a cast that looks like a view": (a_mask_cast_to_a_mask, rand(90)),
}

FOUND |= {
    "whole numbers moved by an index": (
        lambda x: torch.searchsorted(x.sort().values, x).index_select(0, torch.arange(90).flip(0) % 7) * x,
        rand(90),
    ),
    "rows in an order that was even where the program was made": (
        lambda x: x.detach().index_select(0, x.detach()[:, 0].argsort()) * x,
        rand(90, 2).sort(0).values,
    ),
    "a number by a kernel that does not broadcast": (lambda x: F.gelu(x), rand(3, 2, dtype=torch.float32)),
    "the same, tall": (lambda x: F.gelu(x) * F.gelu(x.flip(1)), rand(90, 2, dtype=torch.float32)),
    "a part copied into one number": (
        lambda x: x.mean().index_copy(0, torch.tensor([0]), x[:1]) * x,
        rand(4),
    ),
    "a number beside a mask": (lambda x: x * -1.4 * (rand(8) > 0.5) * 0.3, rand(8)),
    "padded with a number": (lambda x: x / (2 + F.pad(x, (1, -1), value=-0.2) ** 2), rand(90, 2)),
    "padded with the number of an element": (lambda x: x * F.pad(x, (1, 0), value=2)[:, :2], rand(90, 2)),
    "masked_fill of a long sum": (lambda x: F.pairwise_distance(x, x.flip(0)).cumprod(0), rand(140)),
    "memory read in a gradient": (
        torch.func.grad(lambda x: (x.clone().as_strided((2, 2), (1, 2), 1) ** 3).sum()),
        rand(8),
    ),
    "memory of a copy of a part": (lambda x: x[3:7].clone().as_strided((2, 2), (1, 1), 1).detach() * x[:2], rand(8)),
    "a number divided by a float32 constant": (lambda x: (3 * x) / rand(8, dtype=torch.float32), rand(8)),
    "a number added up beside a float32 constant": (
        lambda x: torch.addcmul(x, x.sum().expand(8), rand(8, dtype=torch.float32).double(), value=3),
        rand(8),
    ),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", FOUND)
def test_accumulated_values_are_right_or_refused(name, direction):
    f, x = FOUND[name]
    try:
        made, pattern = program(f, (x,), direction)
    except CannotAccumulateError as refusal:
        if NOT_FOLLOWED in refusal.why:
            raise
        return
    for at in (x, x.flip(0) + 0.05):  # elsewhere too, in another order
        assert_close(dense(made((at,)), pattern), dense_jacobian(f, (at,)))


@pytest.mark.parametrize("n", [12, 300])
def test_zeros_without_memory_are_not_compared(n):
    def lagrangian(x, multipliers):
        return (x**4).sum() + multipliers @ (x[2:] * x[:-2])

    x, m, v = rand(n), rand(n - 2, seed=1), rand(n, seed=2)
    H = tj.plan_hessian(lagrangian, x, m, argnums=0, mode="accumulate").matrix(x, m)
    assert_close(H @ v, torch.autograd.functional.hvp(lambda t: lagrangian(t, m), x, v)[1])


READ = {  # what a rule read was a copy, which depends on nothing
    "masked_scatter of what does not lie in order": lambda x: x.T.masked_scatter(torch.eye(3) > 0, x.T * 2),
    "masked_scatter of a part": lambda x: x.masked_scatter(torch.eye(3) > 0, x.T),
    "put of what does not lie in order": lambda x: (x * 1).put_(torch.arange(9).reshape(3, 3).flip(0), x.T),
}


@pytest.mark.parametrize("name", READ)
def test_patterns_have_every_entry(name):
    f, x = READ[name], rand(3, 3)
    assert torch.equal(dense_jacobian(f, (x,)) != 0, tj.jacobian_sparsity(f, x).to_dense())
    for mode in ("auto", "forward", "reverse", "accumulate"):
        assert_close(tj.plan_jacobian(f, x, mode=mode, ravel=True)(x), dense_jacobian(f, (x,)))


CHOSEN = {  # a choice by values of x, which detection took for one that holds for every x
    "index_select": lambda x: x.index_select(0, x.argsort()[:3]),
    "index_select of a row": lambda x: x.reshape(2, 2).index_select(0, x.reshape(2, 2).argsort(0)[:1, 0]) * x[:2],
}


@pytest.mark.parametrize("name", CHOSEN)
def test_patterns_of_choices_hold_for_every_x(name):
    f, x = CHOSEN[name], rand(4)
    pattern = tj.jacobian_sparsity(f, x)
    assert pattern.scope == "global"
    for at in (x, x.flip(0), -x):
        assert not ((dense_jacobian(f, (at,)) != 0) & ~pattern.to_dense()).any()


@pytest.mark.parametrize("f", [lambda x: x[x > 9].sum() * x, lambda x: x.masked_select(x > 9).sum()])
def test_a_mask_that_selects_nothing_makes_the_pattern_local(f):
    assert tj.jacobian_sparsity(f, rand(4)).scope == "local"
    assert tj.jacobian_sparsity(f, 100 * rand(4)).scope == "global"


def test_a_pattern_is_found_backward_where_the_forward_formula_raises_an_index_error():
    assert tj.jacobian_sparsity(lambda x: x[:0].logcumsumexp(0), rand(3)).nnz == 0


def test_a_refusal_that_f_catches_is_a_refusal_still():
    def f(x):
        try:
            return x.cumprod(0)
        except Exception:
            return x * 0

    with pytest.raises(CannotAccumulateError, match="cumprod"):
        program(f, (rand(4),), "forward")


def test_what_goes_wrong_while_an_op_is_followed_is_a_refusal_that_names_it(monkeypatch):
    def broken(*_):
        raise IndexError("index out of range in self")

    monkeypatch.setattr("torchjac._accumulation.reading.reader.move", broken)
    with pytest.raises(CannotAccumulateError, match=r"view at test_found.py:\d+.*IndexError: index out of range"):
        program(lambda x: x.view(2, 2) * 2, (rand(4),), "forward")
