"""Ops that move elements: the same op, run on ids, shows where each element came from.

Before/after: ids [1, 2, 3] under ``roll(x, 1)`` become [3, 1, 2]; under ``constant_pad_nd(x, (1, 0))`` [0, 1, 2, 3].
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..call import Call
from ..registry import rule
from ..relations import Ids, Move, Of, Pointwise, Relation, Relations


def moves(*names: str) -> Callable[[Call], Relations]:
    """Return a rule: the arguments called ``names`` are moved, everything else stays as it is."""

    def moved(call: Call) -> Relations:
        return [Move(lambda of: call.again(of, *names))]

    return moved


rule("roll", "flip", "repeat", "tril", "triu", "pixel_shuffle", "pixel_unshuffle")(moves("self"))
rule("rot90", "unfold_copy", "diag_embed", "channel_shuffle", "_reshape_copy", "slice_copy", "select_copy")(
    moves("self")
)
rule("cat", "stack", "hstack", "vstack", "_chunk_cat")(moves("tensors"))
rule("slice_scatter", "select_scatter", "diagonal_scatter")(moves("self", "src"))
rule("slice_backward", "select_backward", "diagonal_backward")(moves("grad_output"))


@rule("constant_pad_nd")
def pad(call: Call) -> Relations:
    """Pad with a constant, which depends on nothing, whatever its value."""
    return [Move(lambda of: call.again(of, "self", value=0))]


@rule("as_strided_scatter")
def as_strided_scatter(call: Call) -> Relations:
    """Keep what is overwritten as well: PyTorch's backward lets its gradient pass."""
    kept: list[Relation] = [Pointwise(call["self"])] if call.depends(call["self"]) else []
    return [*kept, Move(lambda of: call.again(of, "self", "src"))]


@rule("masked_fill")
def masked_fill(call: Call) -> Relations:
    """Forget ``self`` where the mask holds, if the mask is known beforehand."""
    x, mask, value = call["self"], call["mask"], call["value"]
    if call.marked(mask):
        return [Pointwise(t) for t in call.operands]
    return [Move(lambda of: torch.where(mask.cpu(), of(value) if call.depends(value) else 0, of(x)))]


@rule("where")
def where(call: Call) -> Relations:
    """A condition computed from x may choose either branch; a constant one always chooses the same."""
    if not call.has("self") or call.marked(call["condition"]):
        return [Pointwise(t) for t in call.operands]
    return [Move(lambda of: _where(call, of))]


def _where(call: Call, of: Of) -> Ids:
    branch = [of(t) if isinstance(t, torch.Tensor) else 0 for t in (call["self"], call["other"])]
    return torch.where(call["condition"].cpu(), branch[0], branch[1])
