"""Bundle adjustment in blocks beside CSR: time of a call, of products, and bytes of indices."""

from __future__ import annotations

from typing import Any

import torch
from timing import interleaved

import torchjac as tj
from torchjac.cli.demo.problems import generated_bundle

CSR = {"argnums": (0, 1), "layout": torch.sparse_csr}
BSR = {"argnums": (0, 1), "layout": torch.sparse_bsr, "blocksize": ((2, 6), (2, 3))}


def main(quick: bool) -> dict[str, Any]:
    bundle = generated_bundle(4, 10, 30) if quick else generated_bundle(60, 20_000, 83_718)
    args, rounds = (bundle.cameras, bundle.points), 3 if quick else 15
    numbers, blocks = (tj.plan_jacobian(bundle.residuals, *args, **options) for options in (CSR, BSR))
    with torch.no_grad():
        plans = {"CSR": lambda: numbers(*args), "BSR": lambda: blocks(*args)}
        calls = interleaved(plans, rounds=rounds)
        whole, (cameras, points) = numbers.matrix(*args), blocks.matrix(*args)
        x = torch.rand(whole.shape[1], dtype=whole.dtype)
        parts = x.split([cameras.shape[1], points.shape[1]])
        products = interleaved(
            {"CSR": lambda: whole @ x, "BSR": lambda: cameras @ parts[0] + points @ parts[1]}, rounds=rounds
        )
        normal = interleaved(
            {"CSR": whole.gram, "BSR": lambda: (cameras.gram(), points.gram(), cameras.T @ points)}, rounds=rounds
        )
        size = {name: _index_bytes(plan()) for name, plan in plans.items()}
    return {
        "observations": len(bundle.observed),
        "detection_s": blocks.seconds["detection"],
        "coloring_s": blocks.seconds["coloring"],
        "blocks_s": blocks.seconds["blocks"],
        "index bytes, CSR": size["CSR"],
        "index bytes, BSR": size["BSR"],
        "call": calls,
        "J @ x": products,
        "J^T J": normal,
    }


def _index_bytes(matrices: tuple[torch.Tensor, ...]) -> int:
    return sum(t.nbytes for J in matrices for t in (J.crow_indices(), J.col_indices()))
