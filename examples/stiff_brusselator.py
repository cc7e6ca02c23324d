"""A stiff reaction-diffusion system, the Brusselator on an N x N grid, by BDF with its exact sparse Jacobian.

python examples/stiff_brusselator.py [N]
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import torch

from torchjac.cli.demo.problems import brusselator
from torchjac.scipy import solve_ivp


def rate(t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:  # (2, N, N) -> (2, N, N)
    return brusselator(u)


def start(size: int) -> np.ndarray:
    """Two bumps, (2, N, N)."""
    x, y = np.meshgrid(*[np.arange(size) / size] * 2, indexing="ij")
    bump = np.sin(2 * math.pi * x) ** 2 * np.sin(math.pi * y) ** 2
    return np.stack([1 + 2 * bump, 3.4 - bump])


def main(size: int = 32, time: float = 1.0, **options: Any) -> Any:
    solution = solve_ivp(rate, (0, time), start(size), rtol=1e-5, atol=1e-7, **options)
    plan = solution.plan
    print(f"{size} x {size} x 2 unknowns: {solution.message}")
    print(f"{solution.t.size} steps, {solution.nfev} evaluations, {solution.njev} Jacobians, {solution.nlu} LU")
    print(f"each Jacobian: {plan.pattern.nnz:,} entries from {plan.num_products} products")
    return solution


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
