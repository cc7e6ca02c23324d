"""A minimal surface on a triangle mesh: gather, element residual, index_add."""

from __future__ import annotations

from typing import Any

import torch
from peers import compare

from torchjac.cli.demo.problems import mesh_assembly


def main(quick: bool) -> dict[str, Any]:
    sizes = (6,) if quick else (30, 175, 400)
    return {
        f"{size} x {size} nodes": compare(mesh_assembly(size), (torch.rand(size * size).double(),), quick=quick)
        for size in sizes
    }
