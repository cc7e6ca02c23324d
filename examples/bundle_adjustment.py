"""Bundle adjustment by sparse nonlinear least squares: cameras and points that best explain what was seen.

python examples/bundle_adjustment.py

It takes the libmv problem of Ceres Solver where it is (libmv_problem_02.bin in the folder that TORCHJAC_DATA names),
and a generated one otherwise.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from torchjac.cli.demo.problems import Bundle, generated_bundle, read_bundle
from torchjac.scipy import least_squares


def problem(observations: int = 4_000) -> Bundle:
    file = Path(os.environ.get("TORCHJAC_DATA", "")) / "libmv_problem_02.bin"
    if file.is_file():
        return read_bundle(file)
    return generated_bundle(cameras=20, points=observations // 6, observations=observations)


def main(bundle: Bundle | None = None, steps: int = 30, **options: Any) -> Any:
    bundle = problem() if bundle is None else bundle
    noise = torch.Generator().manual_seed(0)
    points = bundle.points + 0.01 * torch.randn(bundle.points.shape, generator=noise, dtype=torch.float64)
    before = bundle.residuals(bundle.cameras, points).square().sum().item() / 2
    start = bundle.cameras.numpy(), points.numpy()
    found = least_squares(bundle.residuals, start, x_scale="jac", ftol=1e-7, max_nfev=steps, **options)
    print(f"{bundle.observed.shape[0]:,} observations: cost {before:,.1f} -> {found.cost:,.1f} in {found.nfev} steps")
    given = bundle.residuals(bundle.cameras, bundle.points).square().sum().item() / 2
    print(f"the cameras and points that were given cost {given:,.1f}")
    found.before, found.given = before, given
    return found


if __name__ == "__main__":
    main()
