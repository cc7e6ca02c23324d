"""Reaction and diffusion on a periodic N x N grid, two species."""

from __future__ import annotations

from typing import Any

import torch
from peers import compare

from torchjac.cli.demo.problems import brusselator


def main(quick: bool) -> dict[str, Any]:
    sizes = (6,) if quick else (24, 128, 256)
    return {f"N={size}": compare(brusselator, (torch.rand(2, size, size).double(),), quick=quick) for size in sizes}
