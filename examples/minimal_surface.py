"""A soap film on a bent wire frame: the surface of least area, three ways.

python examples/minimal_surface.py [N]
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from torchjac.scipy import minimize, root


def frame(size: int) -> torch.Tensor:
    """Heights at the rim of a (size + 2, size + 2) grid; zero inside."""
    x = torch.linspace(0, 1, size + 2, dtype=torch.float64)
    heights = torch.zeros(size + 2, size + 2, dtype=torch.float64)
    wave = torch.sin(math.pi * x)
    heights[0], heights[-1], heights[:, 0], heights[:, -1] = wave, wave, -wave, -wave
    return heights


def area(inner: torch.Tensor) -> torch.Tensor:
    """The area of the film with these heights inside the frame, (N, N) -> ()."""
    size = inner.shape[0]
    z, h = pad(inner, (1, 1, 1, 1)) + frame(size), 1 / (size + 1)
    down, right = (z[1:] - z[:-1]) / h, (z[:, 1:] - z[:, :-1]) / h
    lower = torch.sqrt(1 + down[:, :-1] ** 2 + right[:-1] ** 2)  # the two triangles of each cell
    upper = torch.sqrt(1 + down[:, 1:] ** 2 + right[1:] ** 2)
    return (lower.sum() + upper.sum()) * h * h / 2


def main(size: int = 30) -> dict[str, Any]:
    flat = np.zeros((size, size))
    found = {
        "minimize, products with the Hessian": minimize(area, flat, method="trust-krylov", options={"gtol": 1e-8}),
        "minimize, gradients alone": minimize(area, flat, method="L-BFGS-B", options={"gtol": 1e-8, "ftol": 0}),
        "root of the gradient, sparse Newton": root(torch.func.grad(area), flat, method="krylov", tol=1e-10),
    }
    for name, result in found.items():
        total = area(torch.from_numpy(result.x)).item()
        print(f"{name:<36} area {total:.8f}, {result.nit} steps")
    return found


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
