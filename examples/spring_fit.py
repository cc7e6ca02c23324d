"""Find the stiffness and the damping of springs from a noisy film of what hangs on them, by Gauss-Newton.

python examples/spring_fit.py [FRAMES]

A chain of weights on springs is filmed. Unknown are two physical constants and every position in every frame. The
residuals say what the film shows and what Newton's law demands of three frames in a row. Each residual reads a few
positions and the two constants: the Jacobian is a band with two dense columns. Its Gauss-Newton matrix J^T J has the
same form, and each step is one sparse factorisation (Nocedal and Wright, "Numerical Optimization", 2006, chapter 10).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from scipy.sparse.linalg import splu
from torch import Tensor

import torchjac as tj

WEIGHTS, STEP, GRAVITY = 6, 0.02, 9.81  # in the chain; s; m / s^2
STIFFNESS, DAMPING = 60.0, 0.4  # what is to be found: per mass, in 1 / s^2 and 1 / s
NOISE, LAW = 0.01, 2e-4  # m: how exact the film is, and how exactly the law holds from frame to frame


@dataclass
class Fit:
    """What was found: the constants, the cost after each step, and the plan that gave the Jacobians."""

    stiffness: float
    damping: float
    costs: list[float]
    plan: tj.JacobianPlan


def acceleration(x: Tensor, speed: Tensor, constants: Tensor) -> Tensor:
    """Of each weight, (..., WEIGHTS): the springs above and below it, friction, and gravity."""
    stiffness, damping = constants
    stretch = torch.diff(x, prepend=torch.zeros_like(x[..., :1]))  # of the spring above each weight
    below = torch.cat([stretch[..., 1:], torch.zeros_like(stretch[..., :1])], -1)
    return stiffness * (below - stretch) - damping * speed + GRAVITY


def filmed(frames: int) -> Tensor:
    """Positions below the rest length, (frames, WEIGHTS), as the film shows them: simulated, with noise."""
    constants = torch.tensor([STIFFNESS, DAMPING], dtype=torch.float64)
    x = [torch.zeros(WEIGHTS, dtype=torch.float64)] * 2
    while len(x) < frames:
        before, now = x[-2:]
        pull = acceleration(now, torch.zeros_like(now), constants)
        half = constants[1] * STEP / 2  # friction by central differences, as in `law`
        x.append((2 * now - (1 - half) * before + STEP**2 * pull) / (1 + half))
    return torch.stack(x) + NOISE * torch.randn(frames, WEIGHTS, dtype=torch.float64)


def law(constants: Tensor, x: Tensor) -> Tensor:
    """What Newton's law leaves over, (frames - 2, WEIGHTS), as a length."""
    before, now, after = x[:-2], x[1:-1], x[2:]
    return after - 2 * now + before - STEP**2 * acceleration(now, (after - before) / (2 * STEP), constants)


def main(frames: int = 400, steps: int = 12) -> Fit:
    torch.manual_seed(0)
    film = filmed(frames)

    def residuals(constants: Tensor, x: Tensor) -> Tensor:
        """Each over its expected size: the film's, then the law's."""
        return torch.cat([((x - film) / NOISE).reshape(-1), (law(constants, x) / LAW).reshape(-1)])

    constants, x = torch.tensor([20.0, 0.0], dtype=torch.float64), film
    plan = tj.plan_jacobian(residuals, constants, x, argnums=(0, 1), ravel=True)
    costs = [residuals(constants, x).square().sum().item() / 2]
    for _ in range(steps):
        J = plan.matrix(constants, x)
        downhill = -(J.T @ residuals(constants, x))
        move = torch.from_numpy(splu(J.gram().to_scipy().tocsc()).solve(downhill.numpy()))
        constants, x = constants + move[:2], x + move[2:].view_as(x)
        costs.append(residuals(constants, x).square().sum().item() / 2)
        if costs[-1] > costs[-2] * (1 - 1e-9):
            break
    stiffness, damping = constants.tolist()
    m, n = plan.pattern.shape
    print(f"Jacobian {m:,} x {n:,}: {plan.pattern.nnz:,} entries from {plan.num_products} products ({plan.mode})")
    print(f"cost {costs[0]:,.0f} -> {costs[-1]:,.0f} in {len(costs) - 1} steps")
    print(f"stiffness {stiffness:.1f} (true {STIFFNESS}), damping {damping:.2f} (true {DAMPING})")
    return Fit(stiffness, damping, costs, plan)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
