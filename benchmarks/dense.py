"""Dense functions: one Jacobian from nothing, and a plan's, beside the best way that torch.func has.

``from nothing`` holds all that comes before the products: the look for a pattern, or the decision against one, the
choice of a mode, and the check. ``torch.func`` is given the best of both modes and of several chunk sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from timing import interleaved
from torch import nn

import torchjac as tj

Function = Callable[[torch.Tensor], torch.Tensor]


def network(*widths: int) -> nn.Module:
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double().requires_grad_(False)


def main(quick: bool) -> dict[str, Any]:
    shapes = [(3, 3), (9, 9), (5, 12, 4)] if quick else [(3, 3), (20, 20), (64, 64, 64), (256,) * 4, (512,) * 3]
    shapes += [] if quick else [(1024,) * 4, (4096, 256, 64), (64, 256, 4096)]
    return {" -> ".join(map(str, widths)): _compare(network(*widths), widths[0], quick=quick) for widths in shapes}


def _compare(f: Function, n: int, *, quick: bool) -> dict[str, Any]:
    x = torch.rand(n, dtype=torch.float64)
    with torch.no_grad():
        plan = tj.plan_jacobian(f, x)
        plan(x)
        candidates = {f"jacrev, {c}": _jacrev(f, x, c) for c in (None, 32, 128)}
        candidates |= {f"jacfwd, {c}": _jacfwd(f, x, c) for c in (None, 32, 128)}
        tried = interleaved(candidates, rounds=1 if quick else 3, warm_up=1)
        best = min(tried, key=lambda name: tried[name]["median_s"])
        runs = {
            f"torch.func, {best}": candidates[best],
            "plan": lambda: plan(x),
            "from nothing, unchecked": lambda: tj.jacobian(f, x, check=False),
            "from nothing": lambda: tj.jacobian(f, x),
        }
        times = interleaved(runs, rounds=2 if quick else 31)
    return {"mode": plan.mode, "times": times}


def _jacrev(f: Function, x: torch.Tensor, chunk: int | None) -> Callable[[], torch.Tensor]:
    return lambda: torch.func.jacrev(f, chunk_size=chunk)(x)


def _jacfwd(f: Function, x: torch.Tensor, chunk: int | None) -> Callable[[], torch.Tensor]:
    def push(v: torch.Tensor) -> torch.Tensor:
        return torch.func.jvp(f, (x,), (v,))[1]

    if chunk is None:
        return lambda: torch.func.jacfwd(f)(x)
    return lambda: torch.vmap(push, out_dims=-1, chunk_size=chunk)(torch.eye(len(x), dtype=x.dtype))
