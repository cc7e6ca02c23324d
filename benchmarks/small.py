"""Small problems, where what a plan does around its products counts: a tridiagonal function of n inputs."""

from __future__ import annotations

from typing import Any

import torch
from peers import by_hand
from timing import interleaved

import torchjac as tj


def tridiagonal(x: torch.Tensor) -> torch.Tensor:
    """Each output reads its input and the two beside it: 11 ops."""
    left, right = torch.roll(x, 1), torch.roll(x, -1)
    return torch.sin(x) * left + 0.5 * right * right - x * torch.exp(-x) + 0.1 * left


def main(quick: bool) -> dict[str, Any]:
    return {f"n={n:,}": small(n, quick=quick) for n in ((100,) if quick else (1_000, 2_000, 4_000))}


def small(n: int, *, quick: bool) -> dict[str, Any]:
    """Medians of one call; ``overhead_us`` is what a plan takes beyond the same products by hand."""
    x = torch.rand(n, dtype=torch.float64)
    plan = tj.plan_jacobian(tridiagonal, x, layout=torch.sparse_csr)
    hand = by_hand(tridiagonal, (x,), plan)
    runs = {"hand-written": hand, "plan.values": lambda: plan.values(x), "plan": lambda: plan(x)}
    times = interleaved(runs, rounds=3 if quick else 1_001, warm_up=5)
    beyond = times["plan.values"]["median_s"] - times["hand-written"]["median_s"]
    return {"mode": plan.mode, "products": plan.num_products, "overhead_us": 1e6 * beyond, "times": times}
