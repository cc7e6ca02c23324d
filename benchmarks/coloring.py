"""Colors and seconds of torchjac.color beside SciPy, CasADi and ColPack, where they are installed; JSON out.

    OMP_NUM_THREADS=1 python benchmarks/coloring.py --json coloring.json
    COLPACK_PEER=./libcolpack_peer.so ...   # ColPack through colpack_peer.cpp

All run interleaved in one process on one thread; medians. Graph building is included on both sides, and ColPack's
coloring alone is given too. Compiling is not: every contestant runs once before the clock starts.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from coloring_problems import PROBLEMS

from torchjac import SparsityPattern, color
from torchjac._coloring.color import color_best

Contestant = Callable[[], tuple[int, dict[str, float]]]
"""To the number of colors and the seconds of each part."""


def ours(pattern: SparsityPattern, **options: Any) -> Contestant:
    def run() -> tuple[int, dict[str, float]]:
        fresh = SparsityPattern(pattern.shape, *pattern.index_sets)  # nothing cached
        start = time.perf_counter()
        coloring = color_best(fresh) if options.get("partition") == "best" else color(fresh, **options)
        return coloring.num_colors, {"all": time.perf_counter() - start}

    return run


def scipy_columns(pattern: SparsityPattern) -> Contestant:
    from scipy.optimize._group_columns import group_sparse

    matrix = pattern.to_scipy()

    def run() -> tuple[int, dict[str, float]]:
        start = time.perf_counter()
        csc = matrix.tocsc()
        built = time.perf_counter()
        groups = group_sparse(*pattern.shape, csc.indices, csc.indptr)
        end = time.perf_counter()
        return int(groups.max()) + 1, {"all": end - start, "coloring": end - built}

    return run


def casadi_columns(pattern: SparsityPattern) -> Contestant | None:
    try:
        import casadi
    except ImportError:
        return None
    columns = pattern.to_scipy().tocsc()
    sparsity = casadi.Sparsity(*pattern.shape, columns.indptr.tolist(), columns.indices.tolist())

    def run() -> tuple[int, dict[str, float]]:
        start = time.perf_counter()
        transposed = sparsity.T
        built = time.perf_counter()
        found = sparsity.uni_coloring(transposed)
        end = time.perf_counter()
        return found.size2(), {"all": end - start, "coloring": end - built}

    return run


def colpack(pattern: SparsityPattern, kind: str, order: str, variant: str) -> Contestant | None:
    path = os.environ.get("COLPACK_PEER")
    if path is None:
        return None
    library = ctypes.CDLL(os.path.abspath(path))
    indptr, indices = pattern.indptr.astype(np.int32), pattern.indices.astype(np.int32)

    def run() -> tuple[int, dict[str, float]]:
        seconds = np.zeros(2)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (indptr, indices)]
        names = [name.encode() for name in (kind, order, variant)]
        colors = library.colpack_color(*pattern.shape, *pointers, *names, ctypes.c_void_p(seconds.ctypes.data))
        return colors, {"all": float(seconds.sum()), "coloring": float(seconds[1])}

    return run


def contestants(name: str, pattern: SparsityPattern) -> dict[str, Contestant]:
    """Who runs on which problem."""
    partial = ("partial", "COLUMN_PARTIAL_DISTANCE_TWO")
    runs: dict[str, Contestant | None] = {
        "column natural": ours(pattern, order="natural"),
        "column largest-first": ours(pattern, order="largest-first"),
        "column auto": ours(pattern),
        "best side": ours(pattern, partition="best"),
        "scipy": scipy_columns(pattern),
        "casadi": casadi_columns(pattern),
        **{
            f"colpack {o}": colpack(pattern, partial[0], o, partial[1])
            for o in ("NATURAL", "LARGEST_FIRST", "SMALLEST_LAST")
        },
    }
    if "arrow" in name:
        runs = {
            "bidirectional": ours(pattern, partition="bidirectional"),
            "colpack bidirectional": colpack(pattern, "bicoloring", "NATURAL", "IMPLICIT_COVERING__STAR_BICOLORING"),
        }
    elif pattern.shape[0] == pattern.shape[1] and "random" not in name and "brusselator" not in name:
        runs |= {
            "star natural": ours(pattern, partition="symmetric", order="natural"),
            "star auto": ours(pattern, partition="symmetric"),
            "acyclic natural": ours(pattern, partition="symmetric", order="natural", recovery="substitution"),
            "acyclic auto": ours(pattern, partition="symmetric", recovery="substitution"),
        }
        for kind in ("STAR", "ACYCLIC"):
            for order in ("NATURAL", "SMALLEST_LAST"):
                runs[f"colpack {kind} {order}"] = colpack(pattern, "graph", order, kind)
    return {label: run for label, run in runs.items() if run is not None}


def measure(runs: dict[str, Contestant], rounds: int) -> dict[str, Any]:
    """Medians of interleaved rounds, after one that does not count."""
    colors = {label: run()[0] for label, run in runs.items()}
    times: dict[str, dict[str, list[float]]] = {label: {} for label in runs}
    for k in range(rounds):
        labels = np.random.default_rng(k).permutation(list(runs)).tolist()  # what ran before disturbs the caches
        for label in labels:
            for part, seconds in runs[label]()[1].items():
                times[label].setdefault(part, []).append(seconds)
    return {
        label: {"colors": colors[label]} | {part: statistics.median(t) for part, t in times[label].items()}
        for label in runs
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", default="coloring.json")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="part of a problem's name")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name, make in PROBLEMS.items():
        if options.only not in name:
            continue
        pattern = make()
        results[name] = {
            "shape": pattern.shape,
            "nnz": pattern.nnz,
            "runs": measure(contestants(name, pattern), options.rounds),
        }
        print(f"\n{name}: {pattern!r}")
        for label, result in results[name]["runs"].items():
            alone = f"   coloring alone {1e3 * result['coloring']:9.2f} ms" if "coloring" in result else ""
            print(f"  {label:30} {result['colors']:5} colors {1e3 * result['all']:9.2f} ms{alone}", flush=True)
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
