"""Sparse Hessians beside asdex: detection and coloring, evaluation eager and compiled, and the peak of a large one.

    TORCHJAC_PEERS=/path/to/python/with/asdex OMP_NUM_THREADS=1 python benchmarks/run.py hessian --threads 1

Without TORCHJAC_PEERS asdex is left out. Both sides run once on a smaller problem before the clock starts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fresh import PEAK, fresh
from timing import interleaved

import torchjac as tj

Energy = Callable[[torch.Tensor], torch.Tensor]


def rosenbrock(x: torch.Tensor) -> torch.Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def minimal_surface(u: torch.Tensor) -> torch.Tensor:
    a, b = u[1:, 1:] - u[:-1, :-1], u[1:, :-1] - u[:-1, 1:]
    return (1 + (a * a + b * b) / 2).sqrt().sum()


def lennard_jones(pairs: np.ndarray) -> Energy:
    i, j = torch.from_numpy(pairs[:, 0]), torch.from_numpy(pairs[:, 1])

    def energy(x: torch.Tensor) -> torch.Tensor:
        d = x[i] - x[j]
        s = 1 / (d * d).sum(1) ** 3
        return (4 * (s * s - s)).sum()

    return energy


def particles(count: int, density: float = 0.8, cutoff: float = 1.8) -> tuple[np.ndarray, np.ndarray]:
    """(positions (count, 3) on a disturbed lattice, pairs closer than the cutoff (pairs, 2))."""
    from scipy.spatial import cKDTree

    random, side = np.random.default_rng(0), int(np.ceil(count ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:count]
    x = grid * (count / density) ** (1 / 3) / side + random.normal(0, 0.05, (count, 3))
    pairs = cKDTree(x).query_pairs(cutoff, output_type="ndarray")
    return x, pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def main(quick: bool) -> dict[str, Any]:
    length, side, count = (200, 8, 30) if quick else (100_000, 256, 2000)
    random = np.random.default_rng(0)
    chain, surface = random.random(length), random.random((side, side))
    positions, pairs = particles(count)
    problems = {
        "rosenbrock": (rosenbrock, torch.from_numpy(chain)),
        "minimal surface": (minimal_surface, torch.from_numpy(surface)),
        "lennard-jones": (lennard_jones(pairs), torch.from_numpy(positions)),
    }
    theirs = _asdex(chain=chain, surface=surface, positions=positions, i=pairs[:, 0], j=pairs[:, 1])
    grid = torch.rand(8 if quick else 100, 100, dtype=torch.float64)
    tj.color(tj.hessian_sparsity(minimal_surface, grid), "symmetric")  # loads the compiled kernels
    out: dict[str, Any] = {}
    for name, (f, x) in problems.items():
        mine = _measure(f, x, quick)
        out[name] = mine
        if name in theirs:
            best = min(row["median_s"] for row in mine["times"].values())
            out[name]["asdex"] = theirs[name]
            out[name]["faster"] = {
                "prepare": theirs[name]["prepare_s"] / mine["prepare_s"],
                "evaluate": theirs[name]["evaluate_s"] / best,
            }
    out["rosenbrock, large"] = fresh(_LARGE.format(n=1000 if quick else 1_000_000))
    return out


def _measure(f: Energy, x: torch.Tensor, quick: bool) -> dict[str, Any]:
    found, colored = [], []
    for _ in range(5):
        start = time.perf_counter()
        pattern = tj.hessian_sparsity(f, x)
        found.append(time.perf_counter() - start)
        coloring = tj.color(pattern, "symmetric")
        colored.append(time.perf_counter() - start - found[-1])
    detect, color = statistics.median(found), statistics.median(colored)
    runs: dict[str, Callable[[], Any]] = {}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)  # a plan that does not compile is no result
        for mode in ("forward", "reverse"):
            for recovery in ("direct", "substitution"):
                for compiled in (False, True):
                    if recovery == "substitution" and (f is rosenbrock or (compiled and f is minimal_surface)):
                        continue  # many levels: as half the length of the chain, 128 on the grid
                    plan = tj.plan_hessian(
                        f, x, sparsity=pattern, mode=mode, recovery=recovery, compile=compiled, check=False
                    )
                    plan.values(x)
                    name = f"{mode}, {recovery}, {'compiled' if compiled else 'eager'}, {plan.num_products} products"
                    runs[name] = lambda plan=plan: plan.values(x)
        times = interleaved(runs, rounds=3 if quick else 15)
    return {
        "n": x.numel(),
        "nnz": pattern.nnz,
        "colors": coloring.num_colors,
        "detect_s": detect,
        "color_s": color,
        "prepare_s": detect + color,
        "times": times,
    }


def _asdex(**arrays: np.ndarray) -> dict[str, Any]:
    python = os.environ.get("TORCHJAC_PEERS")
    if python is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.npz"
        np.savez(path, **arrays)
        script = Path(__file__).parent / "asdex_peers" / "hessian.py"
        done = subprocess.run([python, str(script), str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{script.name}: exit code {done.returncode}\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


_LARGE = (
    PEAK.replace("{", "{{").replace("}", "}}")
    + """
import json, time, torch, torchjac as tj
def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
x = torch.rand({n}, dtype=torch.float64)
start = time.perf_counter()
plan = tj.plan_hessian(rosenbrock, x, layout=torch.sparse_csr)
prepared = time.perf_counter()
plan(x)
called = time.perf_counter()
print(json.dumps({{"prepare_s": prepared - start, "first_call_s": called - prepared, "peak_mb": peak_mb()}}))
"""
)
