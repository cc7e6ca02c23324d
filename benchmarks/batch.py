"""A network applied to each of (batch, points): its 3 x 3 Jacobians beside hand-written VJPs, and training by them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from timing import interleaved

import torchjac as tj
from torchjac._base.memory import peak_bytes


def main(quick: bool) -> dict[str, Any]:
    return {f"({b}, {n}, 3)": _problem(b, n, quick=quick) for b, n in (((2, 8),) if quick else ((8, 16), (8, 1_024)))}


def network(width: int = 128, depth: int = 4) -> torch.nn.Module:
    """(..., 3) -> (..., 3) with ``depth`` hidden layers."""
    torch.manual_seed(0)
    sizes = [3, *[width] * depth]
    hidden = [m for a, b in pairwise(sizes) for m in (torch.nn.Linear(a, b), torch.nn.Tanh())]
    return torch.nn.Sequential(*hidden, torch.nn.Linear(width, 3))


def by_hand(f: Callable[..., torch.Tensor], x: torch.Tensor, *, graph: bool) -> torch.Tensor:
    """Three VJPs of plain autograd, one for each output of a point."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = f(x)
    rows = []
    for k in range(y.shape[-1]):
        seed = torch.zeros_like(y)
        seed[..., k] = 1
        rows.append(torch.autograd.grad(y, x, seed, retain_graph=True, create_graph=graph)[0])
    return torch.stack(rows, -2)


def _problem(batch: int, points: int, *, quick: bool) -> dict[str, Any]:
    f, x = network(), torch.rand(batch, points, 3)
    parameters = list(f.parameters())

    def step(jacobian: Callable[[], torch.Tensor]) -> None:
        loss = jacobian().square().sum()
        torch.autograd.grad(loss, parameters, allow_unused=True)  # no loss depends on the last bias

    def ours() -> torch.Tensor:
        return tj.batch_jacobian(f, x, batch_dims=2)

    def unchecked() -> torch.Tensor:
        return tj.batch_jacobian(f, x, batch_dims=2, check=False)

    rounds = 3 if quick else 31
    with torch.no_grad():
        difference = float((ours() - by_hand(f, x, graph=False)).abs().max())
        values = interleaved(
            {"three VJPs": lambda: by_hand(f, x, graph=False), "batch_jacobian": ours, "check=False": unchecked},
            rounds=rounds,
        )
        memory = peak_bytes(ours) / peak_bytes(lambda: by_hand(f, x, graph=False))
    training = interleaved(
        {"three VJPs": lambda: step(lambda: by_hand(f, x, graph=True)), "batch_jacobian": lambda: step(ours)},
        rounds=rounds,
    )
    memory_training = peak_bytes(lambda: step(ours)) / peak_bytes(lambda: step(lambda: by_hand(f, x, graph=True)))
    return {
        "difference": difference,
        "memory ratio": memory,
        "memory ratio, training": memory_training,
        "values": values,
        "training": training,
    }
