"""Compare the speed of two checkouts: ``python tools/compare_checkouts.py OLD_SRC NEW_SRC [--rounds 15]``.

A round runs one fresh interpreter for each checkout, and these take turns loop by loop, every second round in the other
order: what the machine does meanwhile, it does to both. Times are CPU time of one thread, and the median over loops
within an interpreter. The ratio, new to old, is the median over rounds of that within a round; beside it is the range
of its middle half.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import statistics
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any


def main(given: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("src", nargs="+", metavar="SRC", help="the two folders that have a package torchjac, old first")
    parser.add_argument("--rounds", type=int, default=15, help="interpreters for each checkout")
    parser.add_argument("--repeats", type=int, default=3, help="loops for each problem within an interpreter")
    parser.add_argument("--seconds", type=float, default=0.05, help="the least that a loop takes")
    parser.add_argument("--only", default="", metavar="TEXT", help="the problems with this in their name")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)  # in the fresh interpreter
    chosen = parser.parse_args(given)
    if chosen.measure:
        steps = measured(chosen)
        for _ in sys.stdin:  # a line says that it is this interpreter's turn
            print(json.dumps(next(steps, None)), flush=True)
        return
    if len(chosen.src) != 2 or chosen.rounds < 1:
        parser.error("two folders and at least one round are needed: OLD_SRC NEW_SRC")
    rounds = [one_round(chosen, (k % 2, 1 - k % 2)) for k in range(chosen.rounds)]
    print(table([old for old, _ in rounds], [new for _, new in rounds]))


def one_round(chosen: argparse.Namespace, order: tuple[int, int]) -> tuple[dict[str, float], ...]:
    """Seconds for each problem by the old checkout and by the new one, each in an interpreter of its own."""
    options = [f"--repeats={chosen.repeats}", f"--seconds={chosen.seconds}", f"--only={chosen.only}", "--measure"]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    start = partial(Popen, env=one_thread, stdin=PIPE, stdout=PIPE, text=True)
    loops: tuple[dict[str, list[float]], ...] = ({}, {})
    with ExitStack() as stack:
        running = [stack.enter_context(start([sys.executable, __file__, src, *options])) for src in chosen.src]
        while said := {which: loop for which in order if (loop := turn(running[which]))}:
            for which, (name, seconds) in said.items():
                loops[which].setdefault(name, []).append(seconds)
    return tuple({name: statistics.median(taken) for name, taken in times.items()} for times in loops)


def turn(process: Popen[str]) -> Any:
    """The next loop of a fresh interpreter, its problem and the seconds of one run; None after the last."""
    print(file=process.stdin, flush=True)
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise SystemExit("an interpreter ended early; what it said is above")
    return json.loads(line)


def measured(chosen: argparse.Namespace) -> Iterator[tuple[str, float]]:
    """The problem and the seconds of one run, loop by loop, by the torchjac in ``chosen.src``."""
    src = Path(chosen.src[0]).resolve()
    sys.path.insert(0, str(src))
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = time.process_time()
    tj = importlib.import_module("torchjac")
    imported = time.process_time()
    _ = tj.plan_jacobian, tj.plan_hessian, tj.batch_jacobian  # names load their modules
    loaded = time.process_time()
    if Path(str(tj.__file__)).resolve().parents[1] != src:
        raise SystemExit(f"torchjac is that of {tj.__file__}, and not that of {src}")
    for name, seconds in (("import torchjac", imported - start), ("import its functions", loaded - start)):
        if chosen.only in name:
            yield name, seconds
    for name, prepare in problems(tj).items():
        if chosen.only in name:
            for seconds in looped(prepare(), chosen.seconds, chosen.repeats):
                yield name, seconds


def problems(tj: Any) -> dict[str, Callable[[], Callable[[], Any]]]:
    """What gives for each problem the run that is timed."""
    import torch

    def stencil(u: torch.Tensor) -> torch.Tensor:
        return 0.1 * (torch.roll(u, -1) - 2 * u + torch.roll(u, 1)) + u * (1 - u)

    def chain(x: torch.Tensor) -> torch.Tensor:
        return ((x[1:] - x[:-1] ** 2) ** 2).sum()

    def call(make: Any, f: Any, x: torch.Tensor, **options: Any) -> Callable[[], Any]:
        plan = make(f, x, **options)
        return partial(plan, x)

    network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 8)).double()
    x, large, batch = (torch.rand(*shape, dtype=torch.float64) for shape in ((50,), (3000,), (16, 8)))
    sparse = {"layout": torch.sparse_csr}
    found: dict[str, Callable[[], Callable[[], Any]]] = {
        f"call, stencil n=50, {mode}": partial(call, tj.plan_jacobian, stencil, x, mode=mode, **sparse)
        for mode in ("forward", "reverse", "accumulate")
    }
    found["call, dense network 8-16-8"] = partial(call, tj.plan_jacobian, network, batch[0], mode="reverse")
    found["call, Hessian of a chain n=50"] = partial(call, tj.plan_hessian, chain, x, mode="forward", **sparse)
    found["batch_jacobian, repeated"] = lambda: partial(tj.batch_jacobian, network, batch)
    for y in (x, large):
        found[f"plan_jacobian, stencil n={len(y)}"] = partial(partial, tj.plan_jacobian, stencil, y)
        found[f"plan_hessian, chain n={len(y)}"] = partial(partial, tj.plan_hessian, chain, y)
    return found


def looped(run: Callable[[], Any], least: float, repeats: int) -> Iterator[float]:
    """CPU seconds of one run, from each of ``repeats`` loops that take about ``least`` seconds or more."""
    for _ in range(3):  # the first call checks, the second may compile
        run()
    timer, number = timeit.Timer(run, timer=time.process_time), 1
    while (taken := timer.timeit(number)) < least:
        number = max(number + 1, min(10 * number, math.ceil(1.2 * number * least / max(taken, 1e-9))))
    for _ in range(repeats):
        yield timer.timeit(number) / number


def table(old: list[dict[str, float]], new: list[dict[str, float]]) -> str:
    """A line for each problem: medians in microseconds, and the ratio."""
    lines = [f"{'problem':<34}{'old, us':>12}{'new, us':>12}{'new/old':>9}  middle half"]
    for name in old[0]:
        ratios = sorted(after[name] / before[name] for before, after in zip(old, new, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        times = "".join(f"{1e6 * statistics.median(run[name] for run in runs):>12,.1f}" for runs in (old, new))
        lines.append(f"{name:<34}{times}{statistics.median(ratios):>9.3f}  {low:.3f} to {high:.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
