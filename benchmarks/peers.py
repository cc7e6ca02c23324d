"""What a plan is measured against: the same colors by hand, the dense ways of torch.func, and f itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timing import interleaved

import torchjac as tj
from torchjac.cli.demo.dense import DenseWay, peak_bytes, raveled

DENSE_BYTES = 256 * 2**20  # a dense Jacobian larger than this is left out


def by_hand(f: Callable[..., torch.Tensor], args: tuple[torch.Tensor, ...], plan: tj.JacobianPlan) -> Callable[[], Any]:
    """The values by the plan's colors, as somebody would write it for this f alone: seeds and index are prebuilt.

    Seeds have the shapes of the inputs (forward) or of the output (reverse) already, as many at once as in the plan.
    """
    pattern, coloring = plan.pattern, plan.coloring
    if coloring is None:
        raise ValueError("a dense plan has no colors")
    forward = plan.mode == "forward"
    colors, other = (pattern.indices, pattern.rows) if forward else (pattern.rows, pattern.indices)
    width = pattern.shape[0] if forward else pattern.shape[1]
    index = torch.from_numpy(coloring.colors[colors].astype(np.int64) * width + other)
    seeds = torch.from_numpy(coloring.colors == np.arange(coloring.num_colors)[:, None]).to(args[0].dtype)

    if forward:
        sizes = [arg.numel() for arg in args]
        parts = tuple(
            p.reshape(-1, *arg.shape).contiguous() for p, arg in zip(seeds.split(sizes, 1), args, strict=True)
        )

        def push(*tangents: torch.Tensor) -> torch.Tensor:
            return torch.func.jvp(f, args, tangents)[1]

        def products() -> torch.Tensor:
            return torch.vmap(push, chunk_size=plan.chunk)(*parts).reshape(-1)
    else:
        cotangents = seeds.reshape(-1, *f(*args).shape)

        def products() -> torch.Tensor:
            _, pull = torch.func.vjp(f, *args)
            gradients = torch.vmap(pull, chunk_size=plan.chunk)(cotangents)
            flat = [g.reshape(len(seeds), -1) for g in gradients]
            return (flat[0] if len(flat) == 1 else torch.cat(flat, 1)).reshape(-1)

    return lambda: products().index_select(0, index)


def fewest_products(
    f: Callable[..., torch.Tensor], args: tuple[torch.Tensor, ...], pattern: tj.SparsityPattern, options: dict[str, Any]
) -> tj.JacobianPlan:
    """The plan by colors of one direction that takes fewer products, for what auto computes without any."""
    plans = [tj.plan_jacobian(f, *args, **options, sparsity=pattern, mode=mode) for mode in ("forward", "reverse")]
    return min(plans, key=lambda plan: plan.num_products)


def compare(f: Callable[..., torch.Tensor], args: tuple[torch.Tensor, ...], *, quick: bool) -> dict[str, Any]:
    """One problem at one size: facts about the plan, and interleaved medians; ratios are to the hand-written one."""
    options: dict[str, Any] = {"argnums": tuple(range(len(args))), "ravel": True, "layout": torch.sparse_csr}
    plan = tj.plan_jacobian(f, *args, **options)
    colored = plan if plan.mode in ("forward", "reverse") else fewest_products(f, args, plan.pattern, options)
    hand = by_hand(f, args, colored)
    m, n = plan.shape
    dense = DenseWay(f, args) if peak_bytes(m, n, args[0].element_size()) <= DENSE_BYTES else None
    ours = {"plan.values": lambda: plan.values(*args), "plan": lambda: plan(*args)}
    if colored is not plan:
        ours["colored products"] = lambda: colored.values(*args)
    difference = float((hand() - plan.values(*args)).abs().max())
    times = interleaved({"hand-written": hand, **ours, "f": lambda: f(*args)}, rounds=3 if quick else 41)
    if dense is not None:
        run: Callable[[], Any] = dense
        g, x = raveled(f, args)
        pair: dict[str, Callable[[], Any]] = {"plan": lambda: plan(*args), "dense": run}
        if (m + n) * n * args[0].element_size() <= DENSE_BYTES:  # it keeps every tensor of f n times
            pair["jacfwd"] = lambda: torch.func.jacfwd(g)(x)
        slow = interleaved(pair, rounds=2 if quick else 5, warm_up=1)
        times |= {str(dense): slow["dense"]} | ({"torch.func.jacfwd": slow["jacfwd"]} if "jacfwd" in slow else {})
        for name in times.keys() - {"hand-written", *ours, "f"}:
            times[name]["ratio"] = times[name]["median_s"] / times["hand-written"]["median_s"]
    return {
        "m": m,
        "n": n,
        "nnz": plan.pattern.nnz,
        "mode": plan.mode,
        "products": colored.num_products,
        "lower_bound": colored.coloring.lower_bound if colored.coloring else None,
        "detection_s": plan.seconds["detection"],
        "coloring_s": plan.seconds["coloring"],
        "difference": difference,
        "times": times,
    }
