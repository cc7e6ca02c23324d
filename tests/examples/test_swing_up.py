"""The worked example: its optimum is one, found with few products, and the pole really stands upright."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import assert_close
from scipy.integrate import solve_ivp
from scipy.optimize import minimize

PATH = Path(__file__).resolve().parents[2] / "examples" / "swing_up.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("swing_up", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["swing_up"] = module
    spec.loader.exec_module(module)
    return module


def test_the_optimum_is_that_of_another_solver_without_our_derivatives(example):
    problem = example.SwingUp(steps=10)
    result, _, _ = example.solve(problem)
    number = torch.from_numpy
    other = minimize(
        lambda z: float(problem.effort(number(z))),
        problem.guess(),
        method="SLSQP",
        constraints={"type": "eq", "fun": lambda z: problem.constraints(number(z)).numpy()},
        options={"maxiter": 300, "ftol": 1e-10},
    )
    assert other.success
    assert result.constr_violation < 1e-9
    assert result.fun == pytest.approx(other.fun, rel=1e-5)


def test_the_pole_stands_upright_and_the_lagrangian_is_stationary_and_convex_along_the_constraints(example):
    problem = example.SwingUp(steps=40)
    result, jacobian, hessian = example.solve(problem)
    assert (jacobian.num_products, hessian.num_products) == (6, 2)
    z, times = torch.from_numpy(result.x), np.linspace(0, example.DURATION, 41)
    force = result.x.reshape(-1, 5)[:, 4]

    def rate(time, state):
        return example.dynamics(torch.from_numpy(state), torch.tensor(np.interp(time, times, force))).numpy()

    end = solve_ivp(rate, (0, example.DURATION), np.zeros(4), rtol=1e-8, atol=1e-8).y[:, -1]
    assert np.abs(end[:2] - [example.DISTANCE, np.pi]).max() < 0.5  # falling already: nothing corrects the force

    multipliers, weight = torch.from_numpy(result.v[0]), torch.ones((), dtype=z.dtype)
    gradient = torch.func.grad(problem.lagrangian)(z, weight, multipliers)
    assert gradient.abs().max() < 1e-4
    H = torch.func.hessian(problem.lagrangian)(z, weight, multipliers)
    assert_close(hessian(z, weight, multipliers), H)
    J = torch.func.jacrev(problem.constraints)(z)
    assert_close(jacobian(z), J)
    along = torch.linalg.svd(J).Vh[J.shape[0] :].T  # directions in which no constraint changes
    assert torch.linalg.eigvalsh(along.T @ H @ along).min() > 0
