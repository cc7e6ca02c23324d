"""Compiled values equal eager ones; what cannot be compiled runs eagerly and says so."""

from __future__ import annotations

import shutil

import pytest
import torch

import torchjac as tj
from torchjac import TorchjacWarning
from torchjac._compiled import Compiled

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
x = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def stencil(x):
    return x.roll(1) * x - x.roll(-1) ** 2


def compiled(f, *args, mode="reverse"):
    plan = tj.plan_jacobian(f, *args, mode=mode)
    return plan, Compiled(plan._strategy.values, args, plan._strategy.colors, {})


@needs_compiler
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_compiled_values_are_those_of_the_plan_at_any_input(mode):
    plan, program = compiled(stencil, x, mode=mode)
    for at in (x, x.flip(0) + 1):
        torch.testing.assert_close(program((at,)), plan.values(at), rtol=1e-12, atol=1e-12)
    assert program.regions == 1


@needs_compiler
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_what_is_expensive_in_f_is_a_region_of_its_own(mode):
    plan, program = compiled(lambda x: (x.sin() * x.roll(1)).exp(), x, mode=mode)
    assert program.regions == 2
    torch.testing.assert_close(program((2 * x,)), plan.values(2 * x), rtol=1e-12, atol=1e-12)


@needs_compiler
def test_other_arguments_are_inputs_of_the_program():
    plan, program = compiled(lambda x, w, i: stencil(x)[i] * w, x, x, torch.arange(50))
    other = (x, 3 * x, torch.arange(50))
    torch.testing.assert_close(program(other), plan.values(*other), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("f", "reason"),
    [(lambda x: x * torch.rand(50), "random numbers"), (lambda x: x * x.sum().item(), "value out of a tracing tensor")],
    ids=["random", "item"],
)
def test_what_cannot_be_compiled_runs_eagerly_and_says_why(f, reason):
    plan = tj.plan_jacobian(f, x, mode="reverse")
    with pytest.warns(TorchjacWarning, match=f"compile=True runs eagerly.*{reason}"):
        program = Compiled(plan._strategy.values, (x,), plan._strategy.colors, {})
    torch.manual_seed(0)
    got = program((x,))
    torch.manual_seed(0)
    torch.testing.assert_close(got, plan.values(x))
    assert program.regions == 0
