"""Run a function under a trace, with directions of its own, and leave the caller's state as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from .._base.lock import PROCESS_WIDE
from .._function.flat import FlatFunction
from .._function.kernels import reference_kernels
from .._function.leaves import Leaf
from .source import entered
from .values import ValueTrace

T = TypeVar("T")


def traced(function: FlatFunction, trace: ValueTrace, run: Callable[[], T]) -> T:
    """Return what ``run()`` returns under ``trace``; random state, buffers and backend flags are then put back."""
    devices = {leaf.device.index or 0 for leaf in function.inputs if leaf.device.type == "cuda"}
    with PROCESS_WIDE, torch.random.fork_rng(devices=devices), reference_kernels():
        try:
            with trace:
                return entered(run)
        finally:
            trace.journal.restore()


def normal(like: torch.Tensor | Leaf) -> torch.Tensor:
    """Return normal random numbers for a direction, from a generator of our own: the caller's does not advance."""
    generator = torch.Generator(like.device).manual_seed(0)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
