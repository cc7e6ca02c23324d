"""Burgers' equation in one dimension, by conv1d."""

from __future__ import annotations

from typing import Any

import torch
from peers import compare

from torchjac.cli.demo.problems import burgers


def main(quick: bool) -> dict[str, Any]:
    sizes = (40,) if quick else (1_000, 30_000, 300_000)
    return {f"n={size}": compare(burgers, (torch.rand(size).double(),), quick=quick) for size in sizes}
