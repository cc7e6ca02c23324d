"""Two processes with one thread each, beside one process with one thread; and what ``explain(ranks=...)`` predicted.

Rounds are interleaved: rank 0 alone, while rank 1 waits, then both. Every entry has ``ratio``: the time of one process
over that of two, the median over rounds. The machine needs two free cores for that to mean anything: ``two at once``
runs the one-process plan on both ranks at the same time, and how much longer that takes no program can win back;
``ratio_when_both_are_busy`` compares with that.
"""

from __future__ import annotations

import datetime
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import torchjac as tj
from torchjac.cli.demo.problems import Bundle, bundle_residuals, generated_bundle

Run = Callable[[], Any]


def main(quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", __file__]
        subprocess.run([*start, str(result), str(int(quick))], check=True)
        found: dict[str, Any] = json.loads(result.read_text())
    return found


def _rank(result: Path, quick: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(minutes=5))
    rank = dist.get_rank()
    with torch.no_grad():
        found = {
            "dense network": _dense(16 if quick else 2048, quick),
            "bundle adjustment": _bundle((4, 10, 30) if quick else (60, 8_000, 48_000), quick),
        }
    if rank == 0:
        result.write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


def _dense(n: int, quick: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(n, n), nn.Tanh(), nn.Linear(n, n)).requires_grad_(False)
    x = torch.rand(n)
    plan = tj.distributed.plan_jacobian(net, x, sparsity=None, mode="reverse")
    return {"reverse": _compare(lambda: plan(x), _shared(plan, x), plan, (x,), quick)}


def _bundle(size: tuple[int, int, int], quick: bool) -> dict[str, Any]:
    bundle = generated_bundle(*size)
    args = (bundle.cameras, bundle.points)
    compiled: Any = {"backend": "aot_eager"} if quick else True
    options: Any = {"argnums": (0, 1), "compile": compiled, "layout": torch.sparse_csr, "ravel": True}
    colored = tj.distributed.plan_jacobian(bundle.residuals, *args, mode="forward", **options)
    program = tj.plan_jacobian(bundle.residuals, *args, **options)
    mine = tj.plan_jacobian(_half(bundle, dist.get_rank()), *args, **options)

    def rows() -> torch.Tensor:
        return mine.values(*args)

    return {
        "9 compiled colors": _compare(lambda: colored.values(*args), _shared(colored, *args), colored, args, quick),
        f"observations cut in two, {program.mode}": _compare(
            lambda: program.values(*args), {"rows": rows}, None, args, quick
        ),
    }


def _half(bundle: Bundle, rank: int) -> Callable[..., torch.Tensor]:
    """The residuals of one half of the observations: f itself cut by rows."""
    few = slice(*[len(bundle.observed) * k // 2 for k in (rank, rank + 1)])
    cut = bundle.camera_index[few], bundle.point_index[few], bundle.observed[few]
    lens = {"focal": bundle.focal, "principal": bundle.principal, "radial": bundle.radial}

    def residuals(cameras: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return bundle_residuals(cameras, points, *cut, **lens)

    return residuals


def _shared(plan: tj.JacobianPlan, *args: torch.Tensor) -> dict[str, Run]:
    jacobian = functools.partial(tj.distributed.jacobian, plan, *args)
    return {gather: functools.partial(jacobian, gather=gather) for gather in ("none", "rows", "all")}


def _compare(one: Run, two: dict[str, Run], plan: Any, args: Any, quick: bool) -> dict[str, Any]:
    for run in [one, *two.values()]:
        for _ in range(3):
            run()
    dist.barrier()
    rounds = 2 if quick else 11
    taken: dict[str, list[float]] = {"one process": [], "two at once": [], **{name: [] for name in two}}
    for _ in range(rounds):
        taken["one process"].append(_timed(one if dist.get_rank() == 0 else lambda: None))
        taken["two at once"].append(_timed(one))
        for name, run in two.items():
            taken[name].append(_timed(run))
    alone, crowded = taken["one process"], taken["two at once"]
    found: dict[str, Any] = {
        name: {
            "median_s": statistics.median(times),
            "ratio": statistics.median(a / b for a, b in zip(alone, times, strict=True)),
            "ratio_when_both_are_busy": statistics.median(a / b for a, b in zip(crowded, times, strict=True)),
        }
        for name, times in taken.items()
    }
    if plan is not None:
        found |= _predicted(plan, args, {name: row["median_s"] for name, row in found.items()})
    return found


def _timed(run: Run) -> float:
    """Seconds until both ranks are done."""
    dist.barrier()
    start = time.perf_counter()
    run()
    dist.barrier()
    return time.perf_counter() - start


def _predicted(plan: Any, args: Any, seconds: dict[str, float]) -> dict[str, Any]:
    """What the model says, measured on rank 0 alone, and by how much it is off."""
    from torchjac._strategies.forecast import forecast

    dist.barrier()
    work = plan.work(*args) if dist.get_rank() == 0 else None
    dist.barrier()
    if work is None:
        return {}
    one, two = forecast(work, 1), forecast(work, 2)
    pairs = {"one process": one.none, "none": two.none, "rows": two.rows, "all": two.all}
    return {f"predicted, {name}": {"predicted_s": s, "error": s / seconds[name] - 1} for name, s in pairs.items()}


if __name__ == "__main__":
    _rank(Path(sys.argv[1]), sys.argv[2] == "1")
