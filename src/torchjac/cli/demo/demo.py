"""The demo: plan, evaluate, compare with the best dense way, and save a picture; for each problem the same."""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

import torchjac as tj

from ..._coloring.colors import Coloring
from ..._matrices.pattern import SparsityPattern
from .dense import DenseWay, largest_difference, largest_scale, peak_bytes
from .picture import save_picture
from .problems import Bundle, brusselator, generated_bundle, read_bundle

# What a dense Jacobian may take here; larger problems are compared at a smaller size.
_DENSE_BYTES, _DENSE_SECONDS = 2 * 2**30, 15.0
_DENSE_LIMITS = f"this demo's {_DENSE_BYTES / 2**30:.0f} GiB and {_DENSE_SECONDS:.0f} s"


@dataclass(frozen=True)
class Problem:
    """A function and its inputs; ``smaller(scale)`` makes the same at a fraction of the size, if that is possible."""

    name: str
    f: Callable[..., torch.Tensor]
    args: tuple[torch.Tensor, ...]
    smaller: Callable[[float], Problem] | None = None

    @property
    def dense_bytes(self) -> int:
        """Bytes that a dense Jacobian takes at its peak."""
        m = self.f(*self.args).numel()
        return peak_bytes(m, sum(arg.numel() for arg in self.args), self.args[0].element_size())

    def plan(self) -> tj.JacobianPlan:
        """Plan one matrix with respect to all inputs."""
        argnums = tuple(range(len(self.args)))
        return tj.plan_jacobian(self.f, *self.args, argnums=argnums, ravel=True, layout=torch.sparse_csr)


def brusselator_problem(size: int) -> Problem:
    """Return the Brusselator on a ``size`` x ``size`` grid."""
    u = torch.rand(2, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return Problem(
        f"Brusselator, {size} x {size} grid, 2 species",
        brusselator,
        (u,),
        lambda scale: brusselator_problem(max(3, int(size * scale))),
    )


def bundle_problem(name: str, bundle: Bundle, smaller: Callable[[float], Problem] | None = None) -> Problem:
    """Return a bundle adjustment, with respect to cameras and points."""
    cameras, points, observations = len(bundle.cameras), len(bundle.points), len(bundle.observed)
    title = f"{name}, {cameras} cameras, {points:,} points, {observations:,} observations"
    return Problem(title, bundle.residuals, (bundle.cameras, bundle.points), smaller)


def generated_problem(size: float) -> Problem:
    """Return a generated bundle adjustment with about as many entries as the Brusselator of this size."""
    cameras, points = max(4, round(size / 2)), max(8, round(size * size / 8))
    bundle = generated_bundle(cameras, points, min(6, cameras) * points)
    return bundle_problem("Bundle adjustment, generated", bundle, lambda scale: generated_problem(size * scale))


def run(size: int, data: Path | None, picture: Path) -> None:
    """Print everything.

    Raises
    ------
    OSError, ValueError: ``data`` cannot be read.
    """
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    problems = [brusselator_problem(size), generated_problem(size)]
    if data is not None:  # read before anything takes time
        problems.append(bundle_problem(f"Bundle adjustment, {data.name}", read_bundle(data)))
    threads = torch.get_num_threads()
    print(f"torchjac {tj.__version__}, torch {torch.__version__}, {threads} thread{'s' * (threads != 1)}, float64")
    print(f"warm-up       {_seconds(_warm_up())}   (Numba compiles the coloring once and keeps it)")
    start = time.perf_counter()
    patterns = {}
    for problem in problems:
        plan = show(problem)
        patterns[problem.name] = (plan.pattern, plan.coloring)
    print("\n" + _picture(picture, patterns))
    print(f"in all {time.perf_counter() - start:.0f} s")


def show(problem: Problem) -> tj.JacobianPlan:
    """Print one problem: the plan's own words, then the times, then the comparison."""
    print(f"\n{problem.name}\n{'-' * len(problem.name)}")
    plan = problem.plan()
    print(plan.explain(), "\n", sep="")
    evaluation, function = _median(partial(plan, *problem.args)), _median(partial(problem.f, *problem.args))
    _row("detection", _seconds(plan.seconds["detection"]), "once a plan")
    _row("coloring", _seconds(plan.seconds["coloring"]), "once a plan")
    _row("evaluation", _seconds(evaluation), f"plan(x), {evaluation / function:.0f} times f itself, median")
    compare(problem, plan, evaluation)
    return plan


def compare(problem: Problem, plan: tj.JacobianPlan, evaluation: float) -> None:
    """Print the time of the same Jacobian by torch.func, at a size that fits."""
    smaller, way = fitting(problem)
    if way is None or smaller is not problem:
        _row("dense", "-", f"{problem.dense_bytes / 2**30:.3g} GiB: too much for {_DENSE_LIMITS}")
    if way is None:
        return
    if smaller is not problem:
        _row("", "", f"so compared on {smaller.name}:")
        plan = smaller.plan()
        evaluation = _median(partial(plan, *smaller.args))
        _row("  plan", _seconds(evaluation), f"{plan.pattern.nnz:,} entries in {plan.num_products} products")
    _passing(f"  dense             ... {way}, about {_seconds(way.seconds)}")
    start = time.perf_counter()
    dense = way()
    seconds = time.perf_counter() - start
    m, n = dense.shape
    _row("  dense", _seconds(seconds), f"{m * n:,} entries by {way}, the fastest of 4 ways")
    difference = largest_difference(dense, plan.pattern, plan.values(*smaller.args))
    size = f"{difference:.1e} of the largest entry" if difference else "none, to the last bit"
    _row("  ratio", f"{seconds / evaluation:,.0f} x", f"largest difference: {size}")


def fitting(problem: Problem) -> tuple[Problem, DenseWay | None]:
    """Return the problem, or a smaller one, and a dense way that stays below the limits; None where none does."""
    budget = _DENSE_BYTES
    while True:
        _passing("  dense             ... trying ways to do it")
        if problem.dense_bytes <= budget:
            way = DenseWay(problem.f, problem.args)
            if way.seconds <= _DENSE_SECONDS:
                return problem, way
            budget = int(0.8 * problem.dense_bytes * _DENSE_SECONDS / way.seconds)  # time grows with the matrix
        if problem.smaller is None:
            return problem, None
        problem = _shrunk(problem.smaller, budget)


def _shrunk(make: Callable[[float], Problem], budget: int) -> Problem:
    return make(largest_scale(lambda scale: make(scale).dense_bytes, budget))


def _warm_up() -> float:
    start = time.perf_counter()
    problem = brusselator_problem(6)
    for mode in ("forward", "reverse"):
        tj.plan_jacobian(problem.f, *problem.args, layout=torch.sparse_csr, mode=mode)(*problem.args)
    generated_problem(6).plan()
    return time.perf_counter() - start


def _median(run: Callable[[], object], repeats: int = 7) -> float:
    for _ in range(2):
        run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _picture(path: Path, patterns: dict[str, tuple[SparsityPattern, Coloring | None]]) -> str:
    try:
        save_picture(path, patterns)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("matplotlib"):
            raise
        return "picture       none: matplotlib is not installed; pip install 'torchjac[plot]'"
    except OSError as error:
        return f"picture       none: {error}"
    return f"picture       {path}, the patterns and their colors"


def _row(name: str, figure: str, remark: str) -> None:
    clear = "\033[2K" if sys.stdout.isatty() else ""
    print(f"{clear}{name:<12} {figure:>9}   {remark}")


def _passing(text: str) -> None:
    """Print a line that the next one overwrites; on a terminal only."""
    if sys.stdout.isatty():
        print(f"\033[2K{text}", end="\r", flush=True)


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
