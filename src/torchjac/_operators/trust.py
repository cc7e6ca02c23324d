"""Trust in products: whether many at once are what single ones are, and whether J v and J^T u are of one matrix."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .._base.errors import first_line
from .._base.random_state import random_numbers
from .._products.chunk import out_of_memory
from .._products.rounding import close

_SOME = 32  # seeds that a batch is tried with

Product = Callable[[torch.Tensor], torch.Tensor]


def batch_fault(seeds: torch.Tensor, one: Product, batch: Product) -> str:
    """Return why a batch is not what single products give; empty where it is.

    Some ops have no batched formula, or a wrong one. A product with the sum of the seeds, each times a random number,
    is compared with the same sum of the batch: no wrong product of it is missed.
    """
    some = seeds[:_SOME]
    weights = random_numbers(len(some), some)
    alone = one(weights @ some)
    try:
        together = batch(some)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        return f"PyTorch said: {first_line(error)}"
    scale = weights.abs() @ together.abs() + alone.abs()
    return "" if bool(close(weights @ together, alone, scale).all()) else "batches of them are wrong here"


def adjoint_fault(shape: tuple[int, int], like: torch.Tensor, jvp: Product, vjp: Product) -> str:
    """Return what u.(J v) and (J^T u).v are where they differ, for a random u and v; empty where they are the same."""
    u, v = random_numbers(shape[0], like), random_numbers(shape[1], like, seed=1)
    left, right = u * jvp(v), v * vjp(u)
    if bool(close(left.sum(), right.sum(), left.abs().sum() + right.abs().sum())):
        return ""
    return f"u.(J v) is {left.sum().item():.6g}, and (J^T u).v is {right.sum().item():.6g}"
