"""A network applied to each of B points: the Jacobian of (B, 16) -> (B, 16) is block diagonal."""

from __future__ import annotations

from typing import Any

import torch
from peers import compare


def main(quick: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    width = 16
    layers = (torch.nn.Linear(width, 64), torch.nn.Tanh(), torch.nn.Linear(64, 64), torch.nn.Tanh())
    network = torch.nn.Sequential(*layers, torch.nn.Linear(64, width)).double().requires_grad_(False)
    sizes = (4,) if quick else (64, 2_048, 8_192)
    return {f"B={size}": compare(network, (torch.rand(size, width).double(),), quick=quick) for size in sizes}
