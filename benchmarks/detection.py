"""Time and memory of jacobian_sparsity for the Brusselator, N x N x 2; one interpreter a size; the log-log slope."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch
from fresh import PEAK, fresh

ONE_SIZE = (
    PEAK
    + """
import json, time, torch, torchjac as tj
from torchjac.cli.demo.problems import brusselator
torch.set_num_threads({threads})
u = torch.rand(2, {size}, {size}, dtype=torch.float64)
tj.jacobian_sparsity(brusselator, u[:, :8, :8])
before, seconds = peak_mb(), []
for _ in range({repeats}):
    start = time.perf_counter()
    pattern = tj.jacobian_sparsity(brusselator, u)
    seconds.append(time.perf_counter() - start)
print(json.dumps(dict(n=u.numel(), nnz=pattern.nnz, seconds=seconds, before_mb=before, peak_mb=peak_mb())))
"""
)


def main(quick: bool) -> dict[str, Any]:
    """``median_s`` is warm; ``peak_mb`` is of the whole interpreter, ``before_mb`` of Python, torch and imports."""
    results = {}
    for size in (8, 16) if quick else (32, 64, 128, 256, 512):
        code = ONE_SIZE.format(size=size, repeats=2 if quick else 5, threads=torch.get_num_threads())
        result = fresh(code)
        seconds = result.pop("seconds")
        result |= {"median_s": statistics.median(seconds), "best_s": min(seconds), "first_s": seconds[0]}
        results[f"N={size}"] = result
    n, seconds, above = (
        np.log([f(r) for r in results.values()])
        for f in (lambda r: r["n"], lambda r: r["median_s"], lambda r: max(r["peak_mb"] - r["before_mb"], 0.1))
    )
    slopes = {"slope_time": float(np.polyfit(n, seconds, 1)[0]), "slope_memory": float(np.polyfit(n, above, 1)[0])}
    return {**results, "log-log": slopes}
