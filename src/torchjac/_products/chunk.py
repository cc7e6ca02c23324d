"""The number of products that run at once: what memory allows, fewer when it runs out, no more than are fast."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .._base.progress import advance
from .._base.user_frame import warn

# Wider chunks do not pay on a CPU: what a chunk works on should stay in its caches, but 32 products share what an
# operation costs whatever its size.
_CACHE_BYTES, _ENOUGH = 8 * 2**20, 32


def chunk_size(colors: int, width: int, itemsize: int) -> int:
    """Return how many products of ``width`` numbers (inputs and outputs) run at once, before anything is measured."""
    alive = 8  # a product keeps a handful of intermediate tensors of the size of its input and output
    return max(1, min(colors, 256 * 2**20 // max(1, alive * width * itemsize)))


def fit(peak: Callable[[int], int], count: int, room: int, *, beside: int = 0, cached: bool = False) -> int:
    """Return the most products at once, of ``count``, whose ``peak(products)`` bytes stay within ``room``; 0 for none.

    ``beside``: what is kept besides while products run in chunks. ``cached``: no more than are fast on a CPU.

    A peak is the largest of several quantities that are affine in the number of products, so it is convex: the line
    through two sizes bounds it between them, and may be too low beyond. So a size beyond is measured too.
    """
    low = peak(1)
    size, high = 1, low
    while high == low and size < count:  # flat: so far the peak was elsewhere, while f ran
        size = min(8 * size if size > 1 else 2, count)
        high = peak(size)
    each = (high - low) / max(1, size - 1)
    most = count if not cached or each == 0 else min(count, max(_ENOUGH, int(_CACHE_BYTES / each)))
    chunk = most if low + (count - 1) * each <= room else min(most, _reach(room - beside - low, each))
    limit = room - (beside if chunk < count else 0)
    if chunk > size and (high := peak(chunk)) > limit:
        chunk = _reach(room - beside - low, (high - low) / (chunk - 1))
    return max(0, chunk)


def _reach(room: float, each: float) -> int:
    return 0 if room < 0 else 1 + int(room / each) if each else 1


def in_chunks(
    some: Callable[[int, int], torch.Tensor], count: int, chunk: int, across: bool = False
) -> tuple[torch.Tensor, int]:
    """Return ``some(start, stop)`` for all of ``count``, stacked, and the chunk that memory had room for.

    Chunks are written into one tensor as they come, unless they carry a graph. ``across``: a tensor whose transpose is
    contiguous. When memory runs out, what is finished is kept and half as many are tried.
    """
    parts: list[torch.Tensor] = []
    whole, done = None, 0
    while done < count:
        advance(done, count)
        stop = min(done + chunk, count)
        try:
            part = some(done, stop)
        except RuntimeError as error:
            if chunk <= 1 or not out_of_memory(error):
                raise
            chunk = min(chunk, stop - done) // 2 or 1
            reason = f"out of memory: {chunk} product{'s' * (chunk > 1)} at a time from now on"
            warn(reason)
            continue
        if stop - done == count:
            return part, chunk
        if part.requires_grad:
            parts.append(part)
        else:
            if whole is None:
                width = part.shape[1]
                whole = part.new_empty((width, count)).T if across else part.new_empty((count, width))
            whole[done:stop] = part
        done = stop
        del part  # before the next is made
    if whole is None:
        return torch.cat(parts), chunk
    return whole, chunk


def out_of_memory(error: RuntimeError) -> bool:
    """Tell whether PyTorch could not allocate memory, on whichever device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in text for words in ("can't allocate memory", "not enough memory", "out of memory")
    )
