"""Compiled plans beside eager ones, compiled hand-written products with the same colors, and f itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import interleaved
from torch.fx.experimental.proxy_tensor import make_fx

import torchjac as tj
from torchjac.cli.demo.problems import brusselator, generated_bundle


def main(quick: bool) -> dict[str, Any]:
    side, observations = (6, 60) if quick else (256, 83_718)
    x = torch.rand(2, side, side, dtype=torch.float64)
    bundle = generated_bundle(*((4, 20) if quick else (60, 20_000)), observations, 0)
    problems = {
        f"brusselator {side}, forward": (brusselator, (x,), "forward"),
        f"brusselator {side}, reverse": (brusselator, (x,), "reverse"),
        f"bundle {observations}, forward": (bundle.residuals, (bundle.cameras, bundle.points), "forward"),
    }
    return {name: _compare(*problem, quick=quick) for name, problem in problems.items()}


def _compare(
    f: Callable[..., torch.Tensor], args: tuple[torch.Tensor, ...], mode: Any, *, quick: bool
) -> dict[str, Any]:
    chosen: dict[str, Any] = {"argnums": tuple(range(len(args))), "mode": mode}
    eager, plan = tj.plan_jacobian(f, *args, **chosen), tj.plan_jacobian(f, *args, **chosen, compile=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)  # a plan that does not compile is no result
        plan.values(*args)
        hand = torch.compile(make_fx(_by_hand(f, args, eager))(*args), dynamic=False)
        runs = {
            "hand-written, compiled": lambda: hand(*args),
            "plan, compiled": lambda: plan.values(*args),
            "plan, eager": lambda: eager.values(*args),
            "f, compiled": torch.compile(lambda: f(*args), dynamic=False),
        }
        error = (plan.values(*args) - eager.values(*args)).abs().max() / eager.values(*args).abs().max()
        times = interleaved(runs, rounds=3 if quick else 15)
    return {"products": plan.num_products, "entries": plan.pattern.nnz, "error": float(error), "times": times}


def _by_hand(
    f: Callable[..., torch.Tensor], args: tuple[torch.Tensor, ...], plan: tj.JacobianPlan
) -> Callable[..., torch.Tensor]:
    """The values by the plan's colors, all products at once and one gather, as a function of the inputs."""
    pattern, colors, forward = plan.pattern, plan.coloring.colors, plan.mode == "forward"
    own, other = (pattern.indices, pattern.rows) if forward else (pattern.rows, pattern.indices)
    width = pattern.shape[0] if forward else pattern.shape[1]
    index = torch.from_numpy(colors[own].astype(np.int64) * width + other)
    seeds = torch.from_numpy(colors == np.arange(plan.num_products)[:, None]).to(args[0].dtype)
    like = args if forward else (f(*args),)
    parts = seeds.split([t.numel() for t in like], 1)
    shaped = tuple(p.reshape(-1, *t.shape).contiguous() for p, t in zip(parts, like, strict=True))

    def values(*inputs: torch.Tensor) -> torch.Tensor:
        if forward:
            products = torch.vmap(lambda *tangents: torch.func.jvp(f, inputs, tangents)[1])(*shaped)
            return products.reshape(-1).index_select(0, index)
        gradients = torch.vmap(torch.func.vjp(f, *inputs)[1])(*shaped)
        return torch.cat([g.reshape(len(seeds), -1) for g in gradients], 1).reshape(-1).index_select(0, index)

    return values
