"""Medians of several callables, interleaved in one process: what the machine does meanwhile, it does to all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any


def interleaved(
    runs: dict[str, Callable[[], Any]], *, rounds: int = 15, warm_up: int = 2, seconds: float = 30.0
) -> dict[str, dict[str, float]]:
    """Time each callable once a round, in turning order, for ``rounds`` rounds or until ``seconds`` have passed.

    Returns, for each name, ``median_s`` and ``ratio``: the median over rounds of its time to that of the first callable
    in the same round.
    """
    for run in runs.values():
        for _ in range(warm_up):
            run()
    names, taken = list(runs), {name: [] for name in runs}
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        end = time.perf_counter() + seconds
        for turn in range(rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                start = time.perf_counter()
                runs[name]()
                taken[name].append(time.perf_counter() - start)
            if time.perf_counter() > end:
                break
    finally:
        if collecting:
            gc.enable()
    first = taken[names[0]]
    return {
        name: {
            "median_s": statistics.median(times),
            "ratio": statistics.median(mine / base for mine, base in zip(times, first, strict=True)),
            "rounds": len(times),
        }
        for name, times in taken.items()
    }
