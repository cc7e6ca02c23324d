"""Compiled Brusselator beside asdex, jitted, in the same mode, one thread each.

    ASDEX_PYTHON=peers/bin/python python benchmarks/run.py asdex_peer --threads 1

asdex and JAX live in an interpreter of their own, a process that runs one Jacobian whenever it is asked to, so that
both are timed in turn. Without the variable there is nothing to compare with, and the result says so.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import torchjac as tj
from torchjac.cli.demo.problems import brusselator

PEER = """
import os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}) if hasattr(os, "sched_setaffinity") else None
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
import asdex

def brusselator(u):  # ravelled: a Jacobian of more dimensions has too many places for its int32
    x, y = u.reshape(2, SIDE, SIDE)
    lap = lambda z: sum(jnp.roll(z, s, a) for s in (1, -1) for a in (0, 1)) - 4 * z
    reaction = x * x * y
    return jnp.stack([1.0 + reaction - 4.4 * x + lap(x) * SCALE, 3.4 * x - reaction + lap(y) * SCALE]).reshape(-1)

folder, mode = sys.argv[1:]
x = np.load(folder + "/x.npy")
SIDE, SCALE = x.shape[-1], (x.shape[-1] - 1) ** 2
x = jnp.asarray(x.reshape(-1))
coloring = asdex.jacobian_coloring(brusselator, x, mode=mode)
run = jax.jit(lambda x: asdex.jacobian_from_coloring(brusselator, coloring)(x).data)
np.save(folder + "/values.npy", np.asarray(run(x)))
print(coloring.num_colors, flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    run(x).block_until_ready()
    print(time.perf_counter() - start, flush=True)
"""


def main(quick: bool) -> dict[str, Any]:
    python = os.environ.get("ASDEX_PYTHON")
    if python is None:
        return {"skipped": "ASDEX_PYTHON names no interpreter with asdex"}
    side = 8 if quick else 256
    return {
        f"brusselator {side}, {mode}": _compare(python, side, mode, 3 if quick else 41)
        for mode in ("forward", "reverse")
    }


def _compare(python: str, side: int, mode: Literal["forward", "reverse"], rounds: int) -> dict[str, Any]:
    x = torch.rand(2, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plan = tj.plan_jacobian(brusselator, x, mode=mode, compile=True)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), x.numpy())
        command = [python, "-c", PEER, folder, {"forward": "fwd", "reverse": "rev"}[mode]]
        peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert peer.stdin is not None
        assert peer.stdout is not None
        try:
            for _ in range(3):
                values = plan.values(x)
            answer = peer.stdout.readline()
            if not answer:
                return {"failed": f"asdex ended with {peer.wait()}"}
            theirs_sorted = np.sort(np.load(Path(folder, "values.npy")))
            difference = float(np.abs(np.sort(values.numpy()) - theirs_sorted).max())
            ours, theirs = [], []
            for _ in range(rounds):
                start = time.perf_counter()
                plan.values(x)
                ours.append(time.perf_counter() - start)
                peer.stdin.write("again\n")
                peer.stdin.flush()
                theirs.append(float(peer.stdout.readline()))
        finally:
            peer.stdin.close()
            peer.wait()
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    times = {"torchjac, compiled": statistics.median(ours), "asdex, jitted": statistics.median(theirs)}
    return {
        "products": plan.num_products,
        "asdex_products": int(answer),
        "difference": difference,
        "ratio": ratio,
        "times": {name: {"median_s": seconds} for name, seconds in times.items()},
    }
