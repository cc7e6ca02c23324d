"""What ``import torchjac`` adds to ``import torch``, each time in a fresh interpreter."""

from __future__ import annotations

import statistics
from typing import Any

from fresh import fresh

CODE = """
import json, time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import torchjac
print(json.dumps(dict(torch=middle - start, torchjac=time.perf_counter() - middle)))
"""


def main(quick: bool) -> dict[str, Any]:
    runs = [fresh(CODE) for _ in range(2 if quick else 9)]
    return {name: {"median_s": statistics.median(run[name] for run in runs)} for name in ("torch", "torchjac")}
