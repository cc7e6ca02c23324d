"""SciPy's solvers: with exact derivatives they find what they find with their own, in fewer evaluations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch

import torchjac as tj
from torchjac import scipy as bridge

N = 600  # n x n is more than is kept dense


def chain(x):  # residuals of a nonlinear chain; the solution is 1
    return torch.cat([x[1:] - (x[:-1] ** 2 + 1) / 2, x - 1])


def discrete(x):  # a discrete boundary value problem (Moré, Garbow, Hillstrom 1981, problem 28)
    h, inside = 1 / (x.numel() + 1), torch.nn.functional.pad(x, (1, 1))
    t = h * torch.arange(1, x.numel() + 1, dtype=x.dtype)
    return 2 * x - inside[:-2] - inside[2:] + h**2 * (x + t + 1) ** 3 / 2


def energy(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("size", [5, N])
@pytest.mark.parametrize("jac", ["exact", "2-point"])
def test_least_squares_dense_and_sparse(size, jac):
    found = bridge.least_squares(chain, np.zeros(size), jac=jac, xtol=1e-12, ftol=1e-12, gtol=1e-12)
    np.testing.assert_allclose(found.x, 1, atol=1e-5)
    assert found.plan.num_products == 3
    assert hasattr(found.jac, "tocsr") == (size == N)


def test_least_squares_of_several_arrays_and_with_a_robust_loss():
    t = torch.linspace(0, 1, 30, dtype=torch.float64)
    y = 2 * t + torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    y[0, 3] += 50  # an outlier

    def misfit(slope, heights):
        return {"all": slope * t + heights - y}

    slope, heights = bridge.least_squares(misfit, (np.zeros(()), np.zeros((2, 1))), loss="cauchy").x
    assert (slope.shape, heights.shape) == ((), (2, 1))
    np.testing.assert_allclose(slope, 2, atol=1e-2)
    np.testing.assert_allclose(heights, [[1], [-1]], atol=1e-2)


def test_lm_and_bounds():
    lm = bridge.least_squares(chain, np.zeros(N // 6), method="lm")
    np.testing.assert_allclose(lm.x, 1, atol=1e-6)
    bounded = bridge.least_squares(chain, np.zeros(5), bounds=(-1, 0.5))
    assert bounded.x.max() <= 0.5


@pytest.mark.parametrize(("method", "size"), [("hybr", 20), ("lm", 20), ("krylov", N)])
def test_root(method, size):
    found = bridge.root(discrete, np.zeros(size), method=method, tol=1e-12)
    assert found.success
    assert discrete(torch.from_numpy(found.x)).abs().max() < 1e-10


def test_newton_by_preconditioning_takes_newtons_steps():
    start = np.zeros(N)
    found = bridge.root(discrete, start, method="krylov", tol=1e-12)
    plain = scipy.optimize.root(
        lambda x: discrete(torch.from_numpy(x)).numpy(), start, method="krylov", options={"maxiter": found.nit}
    )
    assert found.success
    assert found.nit <= 6
    assert not plain.success


@pytest.mark.parametrize(
    ("f", "method", "error"),
    [
        (discrete, "broyden1", tj.OptionError),
        (chain, "hybr", tj.InputError),
        (lambda x: x.detach().numpy(), "hybr", tj.OutputError),
    ],
)
def test_what_root_refuses(f, method, error):
    with pytest.raises(error):
        bridge.root(f, np.zeros(3), method=method)


def heat(t, y):  # forced diffusion with a reaction
    around = torch.roll(y, 1) + torch.roll(y, -1) - 2 * y
    return 1000 * around - y**3 + torch.sin(t)


@pytest.mark.parametrize("method", ["BDF", "Radau", "LSODA", "RK45"])
@pytest.mark.parametrize("size", [8, N])
def test_solve_ivp(method, size):
    y0 = np.sin(np.arange(size)) + 1
    span = (0, 0.02) if method in ("RK45", "LSODA") else (0, 1)
    found = bridge.solve_ivp(heat, span, y0, method=method, rtol=1e-6, atol=1e-8)
    expected = scipy.integrate.solve_ivp(
        lambda t, y: heat(torch.tensor(t), torch.from_numpy(y)).numpy(), span, y0, method="LSODA", rtol=1e-8, atol=1e-10
    )
    np.testing.assert_allclose(found.y[:, -1], expected.y[:, -1], atol=1e-4)
    assert found.plan is None or method != "RK45"  # LSODA may never find it stiff
    assert found.plan is not None or method not in ("BDF", "Radau")


def test_solve_ivp_of_a_grid_saves_the_evaluations_of_differences():
    def grid(t, u):
        return 50 * (torch.roll(u, 1, 0) + torch.roll(u, -1, 1) - 2 * u) - u**3

    y0 = np.random.default_rng(0).random((6, 5))
    found = bridge.solve_ivp(grid, (0, 1), y0)
    plain = scipy.integrate.solve_ivp(
        lambda t, y: grid(t, torch.from_numpy(y).reshape(6, 5)).numpy().ravel(), (0, 1), y0.ravel(), method="BDF"
    )
    assert found.y.shape[0] == 30
    np.testing.assert_allclose(found.y[:, -1], plain.y[:, -1], atol=1e-5)


METHODS = ["trust-krylov", "Newton-CG", "trust-ncg", "trust-exact", "dogleg", "trust-constr", "L-BFGS-B", "BFGS"]


@pytest.mark.parametrize("method", [*METHODS, "Nelder-Mead"])
def test_minimize(method):
    x0 = np.full((2, 2), 1.02)
    found = bridge.minimize(lambda x: energy(x.reshape(-1)), x0, method=method, tol=1e-7)
    assert found.x.shape == (2, 2)
    np.testing.assert_allclose(found.x, 1, atol=1e-3)


def test_minimize_with_a_sparse_hessian_and_several_arrays():
    def f(a, b):
        return energy(torch.cat([a, b]))

    x0 = np.full(N // 2, 1.05), np.full(N // 2, 0.95)
    found = bridge.minimize(f, x0, method="trust-constr", options={"maxiter": 60})
    assert isinstance(found.plan, tj.HessianPlan)
    assert found.plan.num_products <= 3
    assert [part.shape for part in found.x] == [(N // 2,), (N // 2,)]
    np.testing.assert_allclose(np.concatenate(found.x), 1, atol=1e-4)


def test_a_linear_operator():
    from scipy.sparse.linalg import svds

    A = bridge.linear_operator(lambda a, b: torch.outer(a, b) @ b, (np.arange(1.0, 4.0), np.ones(2)))
    J = torch.func.jacrev(lambda x: torch.outer(x[:3], x[3:]) @ x[3:])(torch.tensor([1.0, 2, 3, 1, 1]).double()).numpy()
    np.testing.assert_allclose(A.matmat(np.eye(5)), J)
    np.testing.assert_allclose(svds(A, 1)[1], np.linalg.svd(J)[1][:1])


def test_options_reach_the_plan_and_x0_must_be_numbers():
    found = bridge.least_squares(chain, np.zeros(4), jacobian={"mode": "forward"})
    assert found.plan.mode == "forward"
    with pytest.raises(tj.OptionError, match="there is no option"):
        bridge.least_squares(chain, np.zeros(4), jacobian={"modus": "forward"})
    with pytest.raises(tj.OptionError, match="one triangle is another matrix"):
        bridge.minimize(energy, np.ones(4), hessian={"uplo": "lower"})
    with pytest.raises(tj.InputError, match="an array of real numbers"):
        bridge.least_squares(chain, np.zeros(4) + 1j)


def test_what_scipy_writes_to_its_vectors_does_not_reach_f():
    kept = []

    def f(x):
        kept.append(x)
        return chain(x)

    bridge.least_squares(f, np.zeros(4))
    assert len({tuple(x.tolist()) for x in kept}) > 2


def test_importing_torchjac_leaves_it_out():
    import subprocess
    import sys

    code = "import sys, torchjac; print('scipy.optimize' in sys.modules, 'torchjac.scipy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.split() == ["False", "False"]


@pytest.mark.parametrize(
    "given", [{"bounds": [(0, 0.7)] * 3}, {"constraints": [{"type": "eq", "fun": lambda x: x.sum() - 1}]}]
)
def test_minimize_keeps_to_bounds_and_constraints(given):
    def rosenbrock(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    start = np.full(3, 0.5)
    expected = scipy.optimize.minimize(lambda x: float(rosenbrock(x)), start, **given)
    np.testing.assert_allclose(bridge.minimize(rosenbrock, start, **given).x, expected.x, atol=1e-3)
    with pytest.raises(tj.OptionError, match="ignores"):
        bridge.minimize(rosenbrock, start, method="trust-krylov", **given)


@pytest.mark.parametrize("solver", ["least_squares", "root", "minimize"])
def test_arguments_that_would_not_reach_f_are_refused(solver):
    with pytest.raises(tj.OptionError, match="args="):
        getattr(bridge, solver)(lambda x: (x**2).sum(), np.ones(2), args=(1,))
    with pytest.raises(tj.OptionError, match="jac= of"):
        bridge.minimize(lambda x: (x**2).sum(), np.ones(2), jac="2-point")
