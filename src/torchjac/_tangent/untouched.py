"""Around every trace: directions of its own, and nothing of the caller's left changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .._function import FlatFunction, Leaf
from .._lock import PROCESS_WIDE
from .kernels import reference_kernels
from .values import ValueTrace


@contextmanager
def untouched(function: FlatFunction, trace: ValueTrace) -> Iterator[None]:
    """Trace inside; leave random numbers, buffers and backend flags as they were."""
    devices = {leaf.device.index or 0 for leaf in function.inputs if leaf.device.type == "cuda"}
    with PROCESS_WIDE, torch.random.fork_rng(devices=devices), reference_kernels():
        try:
            with trace:
                yield
        finally:
            trace.journal.restore()


def normal(like: torch.Tensor | Leaf) -> torch.Tensor:
    """Numbers for a direction, from a generator of our own: the caller's stays where it is."""
    generator = torch.Generator(like.device).manual_seed(0)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
