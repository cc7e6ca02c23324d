"""What f reads beside its tensors is not frozen: arguments, globals, closures, attributes, modules."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from oracles import assert_close, dense_jacobian
from torch import nn

import torchjac as tj
from torchjac._strategies import accumulated

STEP = 0.5


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def expected_jacobian(f, args):
    with torch.enable_grad():
        return dense_jacobian(f, args)


class Model:
    """An object whose method reads a number, a tensor, an array and a dict of its own."""

    def __init__(self):
        self.rate, self.weights, self.array, self.table = 2.0, rand(6), np.linspace(0, 1, 6), {"shift": 1.0}

    def residual(self, x):
        scale = torch.tensor(self.array, dtype=x.dtype)
        return x * x.roll(1) * self.rate * self.weights * scale + self.table["shift"] * x


def of_global(x):
    return x * x.roll(1) * STEP


def change_rate(model):
    model.rate = 3.0


def change_weights(model):
    model.weights = rand(6)


def change_array(model):
    model.array[2] = 5.0


def change_table(model):
    model.table["shift"] = 4.0


WAYS = [{"mode": "accumulate"}, {"mode": "reverse"}, {"mode": "reverse", "compile": {"backend": "eager"}}]


@pytest.mark.parametrize("options", WAYS, ids=str)
@pytest.mark.parametrize("change", [change_rate, change_weights, change_array, change_table])
def test_attributes_of_an_object(change, options):
    model, x = Model(), rand(6)
    plan = tj.plan_jacobian(model.residual, x, **options)
    with torch.no_grad():
        for _ in range(2):
            assert_close(plan(x), expected_jacobian(model.residual, (x,)))
        change(model)
        for _ in range(2):
            assert_close(plan(x), expected_jacobian(model.residual, (x,)))


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_a_global_and_a_closure(options, monkeypatch):
    factor, x = 1.5, rand(6)

    def of_closure(x):
        return of_global(x) * factor

    plan = tj.plan_jacobian(of_closure, x, **options)
    with torch.no_grad():
        for step in (0.5, 0.25, 0.125):
            monkeypatch.setitem(globals(), "STEP", step)
            factor += 1
            for _ in range(2):
                assert_close(plan(x), expected_jacobian(of_closure, (x,)))


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_a_parameter_a_buffer_and_the_mode_of_a_module(options):
    net, x = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Dropout(0.0)).double(), rand(1, 4)
    net.eval()
    plan = tj.plan_jacobian(net, x, ravel=True, **options)
    with torch.no_grad():
        plan(x)
        net[0].weight = nn.Parameter(rand(4, 4))
        assert_close(plan(x), expected_jacobian(net, (x,)).reshape(4, 4))
        net[2].running_var = rand(4) + 1
        assert_close(plan(x), expected_jacobian(net, (x,)).reshape(4, 4))
        net[2].running_var.fill_(3)
        assert_close(plan(x), expected_jacobian(net, (x,)).reshape(4, 4))


def step(u, before, dt, scheme="upwind", order=1, options=None):
    shifted = u.roll(1 if scheme == "upwind" else -1)
    rate = dt if options is None else dt * options["rate"]
    return u - rate * (shifted * u) * order - before


@pytest.mark.parametrize("options", WAYS, ids=str)
def test_floats_strings_and_integers_among_the_arguments(options):
    u = rand(8)
    plan = tj.plan_jacobian(step, u, u, 0.1, "upwind", 1, {"rate": 1.0}, **options)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.TorchjacWarning)  # compiled programs are given up after a few changes
        for dt, order, rate in [(0.1, 1, 1.0), (0.1, 1, 1.0), (0.5, 1, 1.0), (0.7, 1, 2.0), (0.9, 2, 2.0)]:
            args = (u, u, dt, "upwind", order, {"rate": rate})
            assert_close(plan(*args), expected_jacobian(step, args))


def test_a_time_step_that_changes_costs_one_more_program_and_no_more(monkeypatch):
    u, built = rand(8), []
    monkeypatch.setattr(
        "torchjac._strategies.accumulated.build",
        lambda *args, real=accumulated.build: (built.append(1), real(*args))[1],
    )
    plan = tj.plan_jacobian(step, u, u, 0.1, mode="accumulate")
    plan(u, u, 0.1)
    plan(u, u, 0.2)
    few = len(built)
    for dt in np.linspace(0.3, 0.9, 50):
        assert_close(plan(u, u, float(dt)), expected_jacobian(step, (u, u, float(dt))))
    assert len(built) == few


def test_a_float_that_decides_what_runs_is_not_an_input_of_the_program():
    def f(x, t):
        return x * x.roll(1) if t > 0.5 else x.sin() * x.roll(-1)

    x = rand(6)
    plan = tj.plan_jacobian(f, x, 0.1, mode="accumulate", sparsity=torch.ones(6, 6), check=False)
    for t in (0.1, 0.2, 0.9, 0.3, 0.8):
        assert_close(plan(x, t), expected_jacobian(f, (x, t)))


def test_what_changes_in_every_call_ends_in_products_said_once():
    counter, x = [0.0], rand(6)

    def f(x):
        return x * x.roll(1) * counter[0]

    plan = tj.plan_jacobian(f, x, mode="accumulate")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for k in range(1, 20):
            counter[0] = float(k)
            assert_close(plan(x), expected_jacobian(f, (x,)))
    assert plan.mode == "reverse"
    assert sum("change from call to call" in str(w.message) for w in said) == 1


def test_a_pattern_is_checked_again_where_a_flag_changed():
    shifts, x = [1], rand(6)

    def f(x):
        return x * x.roll(shifts[0])

    plan = tj.plan_jacobian(f, x, mode="reverse")
    plan(x)
    shifts[0] = 2
    with pytest.raises(tj.StalePatternError):
        plan(x)


def test_a_numpy_array_among_the_arguments():
    x, a = rand(6), np.arange(6.0)
    plan = tj.plan_jacobian(lambda x, a: x * x.roll(1) * torch.from_numpy(a), x, a, mode="accumulate")
    for scale in (1.0, 1.0, 2.0):
        args = (x, scale * a)
        assert_close(plan(*args), expected_jacobian(lambda x, a: x * x.roll(1) * torch.from_numpy(a), args))
