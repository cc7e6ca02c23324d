"""Bundle adjustment, generated; and the real one where the data is (TORCHJAC_DATA, else ../shared/data)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from peers import compare

from torchjac.cli.demo.problems import generated_bundle, read_bundle

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def main(quick: bool) -> dict[str, Any]:
    sizes = ((4, 10, 30),) if quick else ((10, 200, 1_200), (60, 4_000, 24_000), (120, 16_000, 96_000))
    bundles = {f"{size[2]:,} observations": generated_bundle(*size) for size in sizes}
    file = Path(os.environ.get("TORCHJAC_DATA", BESIDE)) / "libmv_problem_02.bin"
    if not quick and file.exists():
        bundles[file.name] = read_bundle(file)
    return {name: compare(b.residuals, (b.cameras, b.points), quick=quick) for name, b in bundles.items()}
