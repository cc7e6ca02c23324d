"""mode="auto" of compiled plans beside both single modes, and an arrow beside the same by hand; one thread.

The arrow has a dense row and a dense column, so that no single mode can do it: two JVPs and one VJP do.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from timing import interleaved
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import torchjac as tj
from torchjac.cli.demo.problems import brusselator, generated_bundle


def network(*widths: int) -> nn.Module:
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double().requires_grad_(False)


def main(quick: bool) -> dict[str, Any]:
    side, observations, wide = (6, 60, 40) if quick else (256, 83_718, 4096)
    x = torch.rand(2, side, side, dtype=torch.float64)
    y, z = torch.rand(wide, dtype=torch.float64), torch.rand(max(2, wide // 64), dtype=torch.float64)
    bundle = generated_bundle(*((4, 20) if quick else (60, 20_000)), observations, 0)
    problems = {
        f"brusselator {side}": (brusselator, (x,)),
        f"tall {len(y)} -> {len(z)}": (network(len(y), 32, len(z)), (y,)),
        f"wide {len(z)} -> {len(y)}": (network(len(z), 32, len(y)), (z,)),
        f"bundle {observations}": (bundle.residuals, (bundle.cameras, bundle.points)),
    }
    if quick:
        problems.pop(f"bundle {observations}")
    found = {name: _modes(*problem, quick=quick) for name, problem in problems.items()}
    return found | {"arrow": _arrow(100 if quick else 100_000, quick=quick)}


def _modes(f: Callable[..., torch.Tensor], args: tuple[torch.Tensor, ...], *, quick: bool) -> dict[str, Any]:
    chosen = {"argnums": tuple(range(len(args))), "ravel": True, "layout": torch.sparse_csr}
    auto = tj.plan_jacobian(f, *args, mode="auto", compile=True, **chosen)
    modes = {mode: tj.plan_jacobian(f, *args, mode=mode, compile=True, **chosen) for mode in ("forward", "reverse")}
    least = min(plan.num_products for plan in modes.values())
    plans = {"auto": auto} | {mode: plan for mode, plan in modes.items() if plan.num_products <= 50 * least}
    with torch.no_grad():
        times = interleaved({mode: lambda p=p: p.values(*args) for mode, p in plans.items()}, rounds=3 if quick else 15)
    best = min(figures["median_s"] for mode, figures in times.items() if mode != "auto")
    return {"chosen": auto.mode, "auto_to_best": times["auto"]["median_s"] / best, "times": times}


def arrow(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x.square().sum()[None], x[1:] * x[0] + x[1:].sin()])


def _arrow(n: int, *, quick: bool) -> dict[str, Any]:
    x = torch.rand(n, dtype=torch.float64)
    eager = tj.plan_jacobian(arrow, x, mode="bidirectional")
    plan = tj.plan_jacobian(arrow, x, mode="auto" if not quick else "bidirectional", compile=True)
    first, rest = torch.zeros(n, dtype=torch.float64), torch.ones(n, dtype=torch.float64)
    first[0], rest[0] = 1, 0
    seed = torch.zeros(n, dtype=torch.float64)
    seed[0] = 1
    # row by row: the first is dense, the others have a first and a diagonal entry
    rows = torch.arange(1, n)
    index = torch.cat([2 * n + torch.arange(n), torch.stack([rows, n + rows], 1).reshape(-1)])
    tangents = torch.stack([first, rest])

    def by_hand(x: torch.Tensor) -> torch.Tensor:
        columns = torch.vmap(lambda v: torch.func.jvp(arrow, (x,), (v,))[1])(tangents)
        row = torch.func.vjp(arrow, x)[1](seed)[0]
        return torch.cat([columns.reshape(-1), row]).index_select(0, index)

    with torch.no_grad():
        hand = torch.compile(make_fx(by_hand)(x), dynamic=False)
        difference = float((hand(x) - eager.values(x)).abs().max())
        plan.values(x)
        runs = {"hand-written, compiled": lambda: hand(x), "plan, compiled": lambda: plan.values(x)}
        times = interleaved(runs, rounds=3 if quick else 101)
    return {"products": plan.num_products, "mode": plan.mode, "difference": difference, "times": times}
