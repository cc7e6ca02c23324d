"""SciPy's solvers with exact Jacobians, beside SciPy's finite differences with and without the pattern."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import scipy.integrate
import scipy.optimize
import torch

from torchjac.cli.demo.problems import generated_bundle, read_bundle
from torchjac.scipy import minimize, solve_ivp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))
import bundle_adjustment  # noqa: E402  # found through the line above
import minimal_surface  # noqa: E402
from stiff_brusselator import rate, start  # noqa: E402

BESIDE = ROOT.parent / "shared" / "data"


def timed(solve: Callable[[], Any], **figures: Callable[[Any], Any]) -> dict[str, Any]:
    begin = perf_counter()
    found = solve()
    taken = perf_counter() - begin
    return {"median_s": taken, **{name: figure(found) for name, figure in figures.items()}}


def stiff(size: int, time: float = 1.0, method: str = "BDF", dense: bool = False) -> dict[str, Any]:
    y0, settings = start(size), {"rtol": 1e-5, "atol": 1e-7, "method": method}
    pattern = solve_ivp(rate, (0, 1e-3), y0, **settings).plan.pattern

    def flat(t: float, y: np.ndarray) -> np.ndarray:
        return rate(torch.tensor(t), torch.tensor(y).reshape(y0.shape)).reshape(-1).numpy()

    def scipys(**given: Any) -> Any:
        return scipy.integrate.solve_ivp(flat, (0, time), y0.reshape(-1), **settings, **given)

    figures = {
        "steps": lambda r: r.t.size,
        "evaluations": lambda r: r.nfev,
        "jacobians": lambda r: r.njev,
        "end": lambda r: float(np.linalg.norm(r.y[:, -1])),
    }
    runs = {
        "torchjac": timed(lambda: solve_ivp(rate, (0, time), y0, **settings), **figures),
        "differences, pattern": timed(lambda: scipys(jac_sparsity=pattern.to_scipy().astype(float)), **figures),
    }
    if dense:
        runs["differences"] = timed(scipys, **figures)
    return runs


def bundle(data: Any) -> dict[str, Any]:
    def run(jac: Any) -> Any:
        return bundle_adjustment.main(data, 30, jac=jac)

    figures = {
        "steps": lambda r: r.nfev,
        "cost": lambda r: float(r.cost),
        "given": lambda r: r.given,
        "start": lambda r: r.before,
    }
    return {
        "torchjac": timed(lambda: run("exact"), **figures),
        "differences, pattern": timed(lambda: run("2-point"), **figures),
        "differences 3-point": timed(lambda: run("3-point"), **figures),
    }


def surface(size: int) -> dict[str, Any]:
    flat = np.zeros((size, size))

    def value(x: np.ndarray) -> float:
        return float(minimal_surface.area(torch.tensor(x).reshape(size, size)))

    figures = {"steps": lambda r: r.nit, "evaluations": lambda r: r.nfev, "area": lambda r: float(r.fun)}

    def scipys() -> Any:
        return scipy.optimize.minimize(value, flat.reshape(-1), method="L-BFGS-B", options={"maxfun": 10**7})

    return {
        "torchjac": timed(lambda: minimize(minimal_surface.area, flat), **figures),
        "torchjac L-BFGS-B": timed(lambda: minimize(minimal_surface.area, flat, method="L-BFGS-B"), **figures),
        "differences L-BFGS-B": timed(scipys, **figures),
    }


def main(quick: bool) -> dict[str, Any]:
    file = Path(os.environ.get("TORCHJAC_DATA", BESIDE)) / "libmv_problem_02.bin"
    if quick:
        return {
            "Brusselator, N=4, BDF": stiff(4, dense=True),
            "generated bundle": bundle(generated_bundle(6, 40, 200)),
            "minimal surface, N=5": surface(5),
        }
    main(quick=True)  # the first run of anything is slower
    return {
        "Brusselator, N=24, BDF": stiff(24, dense=True),
        "Brusselator, N=64, BDF": stiff(64),
        "Brusselator, N=32, t=10, Radau": stiff(32, 10, "Radau"),
        **({file.stem: bundle(read_bundle(file))} if file.exists() else {}),
        "minimal surface, N=24": surface(24),
    }
