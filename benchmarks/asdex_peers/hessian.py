"""The problems of ../hessian.py by asdex, in the interpreter that TORCHJAC_PEERS names: ``python hessian.py in.npz``.

Prints JSON: seconds of detection and coloring, of compiling, and the median of evaluations. One thread, float64.
"""

import json
import os
import statistics
import sys
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import asdex
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def minimal_surface(u, side):
    u = u.reshape(side, side)
    a, b = u[1:, 1:] - u[:-1, :-1], u[1:, :-1] - u[:-1, 1:]
    return jnp.sqrt(1 + (a * a + b * b) / 2).sum()


def lennard_jones(x, i, j):
    x = x.reshape(-1, 3)
    d = x[i] - x[j]
    s = 1 / (d * d).sum(1) ** 3
    return (4 * (s * s - s)).sum()


def measure(f, x, rounds):
    prepared = []
    for _ in range(3):
        start = time.perf_counter()
        colored = asdex.hessian_coloring(f, x)
        prepared.append(time.perf_counter() - start)
    hessian = jax.jit(asdex.hessian_from_coloring(f, colored))
    start = time.perf_counter()
    nnz = int(hessian(x).nse)
    compiled = time.perf_counter() - start
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(hessian(x).data)
        taken.append(time.perf_counter() - start)
    colors = int(np.max(np.asarray(colored.colors))) + 1
    return {
        "prepare_s": statistics.median(prepared),
        "compile_s": compiled,
        "colors": colors,
        "nnz": nnz,
        "evaluate_s": statistics.median(taken),
    }


def main():
    given = np.load(sys.argv[1])
    measure(rosenbrock, np.ones(9), 1)  # what is compiled once is compiled
    u, i, j = given["surface"], given["i"], given["j"]
    problems = {
        "rosenbrock": (rosenbrock, given["chain"]),
        "minimal surface": (lambda x: minimal_surface(x, len(u)), u.ravel()),
        "lennard-jones": (lambda x: lennard_jones(x, i, j), given["positions"].ravel()),
    }
    print(json.dumps({name: measure(f, jnp.asarray(x), 15) for name, (f, x) in problems.items()}))


main()
