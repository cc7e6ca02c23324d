"""Read ops of out[i] from operand[i]: the op on the coefficient, the same map."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..._tangent.call import Call
from ..._tangent.values import tensors
from ..coefficients.slots import Entries, Slot, State
from ..tape.tape import replaced
from ..tensor_map import tensor_on
from .states import States, state_of


def pointwise(reader: States, call: Call, operands: Sequence[torch.Tensor], out: torch.Tensor) -> State:
    state = state_of(out)
    for operand in operands:
        if reader.depends(operand):
            others = [t for t in call.operands if t is not operand]
            for slot in reader.state(operand).slots:
                c = _applied(reader, call, operand, reader.state(operand).tensor(slot.coefficient), others)
                state.add(Slot(slot.map.broadcast(out.shape), c, slot.clean))
            for entries in reader.state(operand).broadcast_entries(out.shape):
                state.entries.append(_scaled_entries(reader, call, operand, entries, others, out.shape))
    return state


def _applied(
    reader: States, call: Call, operand: torch.Tensor, c: torch.Tensor, others: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Run the op on a coefficient in place of its operand, and on zeros in place of the others that depend on v."""

    def replace(t: torch.Tensor) -> torch.Tensor:
        if t is operand:
            return c
        return torch.zeros((), dtype=t.dtype, device=t.device) if any(t is o for o in others) else t

    mixed = any(t.dtype != c.dtype for t in tensors(call.args) if t.is_floating_point())
    if mixed and c.dim() == 0 and operand.dim():
        c = c.expand(operand.shape)  # beside tensors with dimensions, one without does not count for the dtype
    args, kwargs = replaced((call.args, call.kwargs), replace, torch.Tensor)
    result: torch.Tensor = call.op(*args, **kwargs)
    return result


def _scaled_entries(
    reader: States,
    call: Call,
    operand: torch.Tensor,
    entries: Entries,
    others: Sequence[torch.Tensor],
    shape: torch.Size,
) -> Entries:
    """Run the op on the values of entries; its other operands are read at their rows."""
    rows = tensor_on(entries.values.device, entries.rows)

    def replace(t: torch.Tensor) -> torch.Tensor:
        if t is operand:
            return entries.values
        if any(t is o for o in others):
            return torch.zeros((), dtype=t.dtype, device=t.device)
        if t.dim() == 0:
            return t
        return t.reshape(1) if t.numel() == 1 else t.expand(shape).reshape(-1).index_select(0, rows)

    args, kwargs = replaced((call.args, call.kwargs), replace, torch.Tensor)
    return Entries(entries.rows, entries.columns, call.op(*args, **kwargs))
