"""The cost of products: seconds by the clock, and a model of a batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_MUCH = 3  # times slower, and once more would not change it


@dataclass(frozen=True)
class UnitCost:
    """The seconds of a batch: ``fixed`` for a batch of any size, and ``each`` for a product in it."""

    fixed: float
    each: float

    def of(self, count: int) -> float:
        """Return the seconds for ``count`` products."""
        return self.fixed + self.each * count if count else 0.0


def seconds_of(run: Callable[[], torch.Tensor], than: float = float("inf")) -> float:
    """Time ``run()``: the fastest of three, or of fewer where one is slow, or much slower than ``than``."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        out = run()
        if out.is_cuda:
            torch.cuda.synchronize(out.device)
        taken.append(time.perf_counter() - start)
        if sum(taken) > 0.1 or taken[-1] > _MUCH * than:
            break
    return min(taken)
