"""Elements chosen by an index that was computed from x: a sum of terms, one for each place that could be chosen.

Before/after, the derivative of ``x.max(1)`` over 2 columns: ``where(i == 0, t[:, 0], 0) + where(i == 1, t[:, 1], 0)``.
That holds for every x. The places that could be chosen are those of detection: all of a dimension, a prefix, a window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...._base.words import OpResult
from ...._tangent.call import Call
from ...._tangent.relations import Window
from ...._tangent.rules.pooling import adaptive_windows, flattened, pool_windows
from .registry import REWRITES, SHORT, rewrite
from .windows import Piece, along, as_window, taken, windowed


@rewrite("gather")
def gather(call: Call) -> OpResult:
    """out[i][j] = self[index[i][j]][j] along ``dim``."""
    x, index = call["self"], call["index"]
    if not _fits(call, x, index):
        return NotImplemented
    dim = call["dim"] % x.dim()
    window = as_window(call.choice(index), index.shape[dim], x.shape[dim])
    if not _is_short(window, index.shape[dim]):
        return NotImplemented

    def chosen(term: torch.Tensor, piece: Piece) -> torch.Tensor:
        hit = taken(index, dim, piece.out) == along(piece.places, dim, index)
        return torch.where(hit, term, term.new_zeros(()))

    return windowed(x, dim, window, then=chosen)


@rewrite("masked_fill")
def masked_fill(call: Call) -> OpResult:
    """Choose between x and a value that depends on v: the value is one number, and its coefficients are many."""
    x, mask, value = call["self"], call["mask"], call["value"]
    return torch.where(mask, value.to(x.dtype), x) if call.depends(value) else NotImplemented


@rewrite("scatter_add", "scatter")
def scatter(call: Call) -> OpResult:
    """self[index[i][j]][j] += src[i][j] along ``dim``; writing one element a line into a constant adds it."""
    base, index = call["self"], call["index"]
    if not call.has("src") or not _fits(call, base, index) or call["src"].shape != index.shape or call.has("reduce"):
        return NotImplemented
    dim = call["dim"] % base.dim()
    adds = call.op._schema.name == "aten::scatter_add"
    if not adds and (call.depends(base) or index.shape[dim] > 1):
        return NotImplemented
    window = as_window(call.choice(index), index.shape[dim], base.shape[dim]).transposed(base.shape[dim])
    added = _spread(call["src"], index, dim, window)
    return base + added if call.depends(base) and added is not NotImplemented else added


def _spread(source: torch.Tensor, index: torch.Tensor, dim: int, window: Window) -> OpResult:
    """Add each element of ``source`` at its index, which is one of the outputs that read it under ``window``."""
    if not _is_short(window, window.starts.numel() - 1):
        return NotImplemented

    def chosen(term: torch.Tensor, piece: Piece) -> torch.Tensor:
        hit = taken(index, dim, piece.places) == along(piece.out, dim, index)
        return torch.where(hit, term, term.new_zeros(()))

    return windowed(source, dim, window, then=chosen)


def _fits(call: Call, x: torch.Tensor, index: torch.Tensor) -> bool:
    """Whether the index was computed from the inputs of f, and has the shape of x, except along ``dim``."""
    if x.dim() == 0 or index.dim() != x.dim() or not call.marked(index):
        return False
    dim = call["dim"] % x.dim()
    return all(i == s for d, (i, s) in enumerate(zip(index.shape, x.shape, strict=True)) if d != dim)


def _is_short(window: Window, outputs: int) -> bool:
    """Whether the window has ``outputs`` outputs, and few places for each."""
    counts = window.starts.diff()
    return counts.numel() == outputs and (counts.numel() == 0 or int(counts.max()) <= SHORT)


def _register_pools(k: int) -> None:
    """Register the backward of the ``k``-dimensional maximum pools."""

    def back(call: Call, windows: Sequence[Window], inputs: Sequence[int]) -> OpResult:
        grad, index = (t.flatten(-k) for t in (call["grad_output"], call["indices"]))
        size = torch.Size(inputs).numel()
        out = _spread(grad, index, grad.dim() - 1, flattened(windows, inputs).transposed(size))
        return out if out is NotImplemented else out.unflatten(-1, list(inputs))

    def pool(call: Call) -> OpResult:
        inputs = call["self"].shape[-k:]
        return back(call, pool_windows(call, inputs, call["grad_output"].shape[-k:]), inputs)

    def adaptive(call: Call) -> OpResult:
        inputs = call["self"].shape[-k:]
        return back(call, adaptive_windows(inputs, call["grad_output"].shape[-k:]), inputs)

    REWRITES[f"max_pool{k}d_with_indices_backward"], REWRITES[f"adaptive_max_pool{k}d_backward"] = pool, adaptive


for _k in (1, 2, 3):
    _register_pools(_k)
