"""Swing up a pole on a cart with the least effort: an optimal control problem with exact sparse derivatives.

    python examples/swing_up.py

The trajectory is discretised by trapezoidal collocation (Kelly, "An introduction to trajectory optimization", SIAM
Review 59 (2017), section 6) and solved by SciPy's trust-constr, which asks in each iteration for the Jacobian of the
constraints and the Hessian of the Lagrangian. torchjac prepares both once: states at neighbouring times meet, others
do not, so a handful of products give either, however fine the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import NonlinearConstraint, OptimizeResult, minimize

import torchjac as tj

CART, POLE, LENGTH, GRAVITY = 1.0, 0.3, 0.5, 9.81  # kg, kg, m, m / s^2
DISTANCE, DURATION = 1.0, 2.0  # m, s


def dynamics(state: torch.Tensor, force: torch.Tensor) -> torch.Tensor:
    """Time derivative of (position, angle, speed, angular speed), (..., 4); an angle of pi is upright."""
    _, angle, speed, turn = state.unbind(-1)
    sine, cosine = angle.sin(), angle.cos()
    mass = CART + POLE * sine**2
    push = force + POLE * LENGTH * sine * turn**2
    faster = (push + POLE * GRAVITY * cosine * sine) / mass
    turning = -(cosine * push + (CART + POLE) * GRAVITY * sine) / (LENGTH * mass)
    return torch.stack([speed, turn, faster, turning], -1)


@dataclass
class SwingUp:
    """``steps`` equal time steps; the unknowns are (steps + 1, 5): four states and a force at each time."""

    steps: int

    @property
    def step(self) -> float:
        return DURATION / self.steps

    def effort(self, z: torch.Tensor) -> torch.Tensor:
        """The integral of the squared force."""
        squared = z.reshape(-1, 5)[:, 4] ** 2
        return self.step * (squared[1:] + squared[:-1]).sum() / 2

    def constraints(self, z: torch.Tensor) -> torch.Tensor:
        """What must vanish: each step's defect, (steps, 4), and the states at both ends."""
        nodes = z.reshape(-1, 5)
        state, force = nodes[:, :4], nodes[:, 4]
        rate = dynamics(state, force)
        defects = state[1:] - state[:-1] - self.step * (rate[1:] + rate[:-1]) / 2
        goal = torch.tensor([DISTANCE, torch.pi, 0, 0], dtype=z.dtype)
        return torch.cat([defects.reshape(-1), state[0], state[-1] - goal])

    def lagrangian(self, z: torch.Tensor, weight: torch.Tensor, multipliers: torch.Tensor) -> torch.Tensor:
        return weight * self.effort(z) + multipliers @ self.constraints(z)

    def guess(self) -> np.ndarray:
        """A straight line from start to goal, without force."""
        nodes = np.zeros((self.steps + 1, 5))
        nodes[:, 0], nodes[:, 1] = np.linspace(0, DISTANCE, len(nodes)), np.linspace(0, np.pi, len(nodes))
        return nodes.ravel()


def solve(problem: SwingUp) -> tuple[OptimizeResult, tj.JacobianPlan, tj.HessianPlan]:
    """The optimum, and the two plans that led there."""
    start = torch.from_numpy(problem.guess())
    some = torch.zeros_like(problem.constraints(start))
    jacobian = tj.plan_jacobian(problem.constraints, start)
    weight = torch.ones((), dtype=start.dtype)
    hessian = tj.plan_hessian(problem.lagrangian, start, weight, some, argnums=0)  # one pattern for all multipliers

    def number(z: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(z))

    def hessian_of(weight: float) -> object:
        w = torch.tensor(weight, dtype=start.dtype)
        return lambda z, v: hessian.matrix(number(z), w, number(v)).to_scipy()

    with torch.no_grad():
        result = minimize(
            lambda z: float(problem.effort(number(z))),
            problem.guess(),
            method="trust-constr",
            jac=lambda z: torch.func.grad(problem.effort)(number(z)).numpy(),
            hess=lambda z: hessian_of(1.0)(z, np.zeros(len(some))),
            constraints=NonlinearConstraint(
                lambda z: problem.constraints(number(z)).numpy(),
                0,
                0,
                jac=lambda z: jacobian.matrix(number(z)).to_scipy(),
                hess=hessian_of(0.0),
            ),
            options={"maxiter": 400, "gtol": 1e-6, "xtol": 1e-10},
        )
    return result, jacobian, hessian


def main() -> None:
    problem = SwingUp(steps=40)
    result, jacobian, hessian = solve(problem)
    n = hessian.shape[0]
    print(f"{n} unknowns, {jacobian.shape[0]} constraints, {result.nit} iterations, {result.execution_time:.1f} s")
    print(f"Jacobian: {jacobian.pattern.nnz} entries in {jacobian.num_products} products")
    print(f"Hessian:  {hessian.pattern.nnz} entries in {hessian.num_products} products")
    print(f"effort {result.fun:.3f} N^2 s, largest defect {result.constr_violation:.1e}")
    force = result.x.reshape(-1, 5)[:, 4]
    for time, push in zip(np.linspace(0, DURATION, len(force))[::4], force[::4], strict=True):
        print(f"{time:5.2f} s  {push:+7.2f} N  {'#' * round(abs(push))}")


if __name__ == "__main__":
    main()
