"""Read ops whose effect on a coefficient is known without running them: numbers stay numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..._base.words import OpArgument, OpResult
from ..._tangent.call import Call
from ..coefficients.index_map import IndexMap
from ..coefficients.slots import Coefficient, Entries, Slot, State
from ..tensor_map import tensor_on
from .states import States, state_of
from .sums import summed

Scaling = Callable[[States, Call, torch.Tensor], State]
SCALINGS: dict[str, Scaling] = {}


def scaled(factor: Any) -> Callable[[Coefficient], Coefficient]:
    """Return the multiplication of a coefficient by a number."""

    def scale(c: Coefficient) -> Coefficient:
        if factor == 1:
            return c
        return -c if factor == -1 else c * factor

    return scale


def _scaling(*names: str) -> Callable[[Scaling], Scaling]:
    def register(function: Scaling) -> Scaling:
        for name in names:
            SCALINGS[name] = function
        return function

    return register


@_scaling("add", "prims::add")
def add(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of self + alpha * other."""
    return _sum(reader, call, out, call["alpha"] if call.has("alpha") else 1)


@_scaling("sub", "prims::sub")
def sub(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of self - alpha * other."""
    return _sum(reader, call, out, -(call["alpha"] if call.has("alpha") else 1))


@_scaling("rsub")
def rsub(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of other - alpha * self."""
    state = state_of(out)
    state.add_all(reader.state(call["self"]), scaled(-call["alpha"]))
    if reader.depends(call["other"]):
        state.add_all(reader.state(call["other"]))
    return state


def _sum(reader: States, call: Call, out: torch.Tensor, alpha: OpArgument) -> State:
    state = state_of(out)
    for value, factor in zip(call.args[:2], (1, alpha), strict=True):
        if reader.depends(value):
            state.add_all(reader.state(value), _cast(value, out, scaled(factor)))
    return state


@_scaling("neg", "prims::neg", "_neg_view")
def neg(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of -self."""
    state = state_of(out)
    state.add_all(reader.state(call.args[0]), scaled(-1))
    return state


@_scaling("clone", "_to_copy", "contiguous", "lift_fresh_copy", "copy", "resolve_conj", "resolve_neg")
def same(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of the same numbers, perhaps of another dtype; copy(self, src) forgets self."""
    source = call["src"] if call.has("src") else call.args[0]
    state = state_of(out)
    if reader.depends(source):
        state.add_all(reader.state(source), _cast(source, out, lambda c: c))
    return state


def _cast(
    source: torch.Tensor, out: torch.Tensor, then: Callable[[Coefficient], Coefficient]
) -> Callable[[Coefficient], Coefficient]:
    if source.dtype == out.dtype and source.device == out.device:
        return then
    return lambda c: then(c.to(out.device, out.dtype) if isinstance(c, torch.Tensor) else c)


@_scaling("mul", "prims::mul")
def mul(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of self * other, where one of them depends on v."""
    a, b = call.args[:2]
    operand, factor = (a, b) if reader.depends(a) else (b, a)
    return multiplied(reader, operand, factor, out)


def multiplied(reader: States, operand: torch.Tensor, factor: Any, out: torch.Tensor) -> State:
    """Every coefficient of ``operand``, multiplied by the factor of its element."""
    return _scaled(reader, operand, factor, out, lambda c, p: c * p)


@_scaling("div", "prims::div")
def div(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of self / other."""
    if call.has("rounding_mode") and call["rounding_mode"] is not None:
        raise reader.refusal(call, "rounding is not linear")
    return _scaled(reader, call.args[0], call.args[1], out, lambda c, p: c / p)


def _scaled(
    reader: States, operand: torch.Tensor, factor: Any, out: torch.Tensor, apply: Callable[..., OpResult]
) -> State:
    given, state = reader.state(operand), state_of(out)
    if not isinstance(factor, torch.Tensor):
        state.add_all(given, lambda c: apply(c, factor))
        return state
    # a coefficient that is a number would let the product have the factor's dtype, or with a mask the default one
    whole = not (factor.is_floating_point() or factor.is_complex())
    p: torch.Tensor = factor.to(out.dtype) if whole or out.is_floating_point() else factor

    def scale(c: Coefficient) -> Coefficient:
        if not isinstance(c, torch.Tensor) and c in (1, -1):
            own = p if p.dtype == out.dtype else p.to(out.dtype)
            own = apply(1.0, own) if apply(1.0, 2.0) != 2.0 else own
            return own if c == 1 else -own
        scaled_coefficient: Coefficient = apply(c, p)
        return scaled_coefficient

    for slot in given.slots:
        state.add(type(slot)(slot.map.broadcast(out.shape), scale(slot.coefficient), slot.clean))
    for entries in given.broadcast_entries(out.shape):
        values = apply(entries.values, _at(p, out.shape, entries))
        state.entries.append(Entries(entries.rows, entries.columns, values))
    return state


def _at(factor: torch.Tensor, shape: torch.Size, entries: Entries) -> torch.Tensor:
    """Return a factor at the rows of entries."""
    if factor.numel() == 1:
        return factor.reshape(())
    rows = tensor_on(factor.device, entries.rows)
    return factor.expand(shape).reshape(-1).index_select(0, rows)


@_scaling("sum", "prims::sum")
def total(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of sum(self, dim=None, keepdim=False)."""
    x = call.args[0]
    dims = next((call[name] for name in ("dim", "dims") if call.has(name)), None)
    keepdim = bool(call["keepdim"]) if call.has("keepdim") else False
    listed = [dims] if isinstance(dims, int) else list(dims) if dims else list(range(x.dim()))
    return summed(reader, x, out, listed, keepdim)


# v is real, so that a complex tensor depends on it by complex coefficients, and what is linear over the reals only
# (real parts, conjugates) acts on them as on the tensor.


@_scaling("view_as_real")
def view_as_real(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of a view (...) complex -> (..., 2) real."""
    given, state = reader.state(call.args[0]), state_of(out)
    for slot in given.slots:
        ids = slot.map.ids.unsqueeze(-1).expand(out.shape)
        state.add(Slot(IndexMap(ids), torch.view_as_real(given.full(slot).resolve_conj()), slot.clean))
    for entries in given.entries:
        rows = np.stack([2 * entries.rows, 2 * entries.rows + 1], 1).reshape(-1)
        values = torch.view_as_real(entries.values.to(given.like.dtype).resolve_conj()).reshape(-1)
        state.entries.append(Entries(rows, entries.columns.repeat(2), values))
    return state


@_scaling("view_as_complex")
def view_as_complex(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of a view (..., 2) real -> (...) complex."""
    given, state = reader.state(call.args[0]), state_of(out)
    for slot in given.slots:
        for part, unit in enumerate((1, 1j)):
            c = given.full(slot).select(-1, part) * torch.full_like(state.like, unit)
            state.add(Slot(IndexMap(slot.map.ids.select(-1, part)), c, slot.clean))
    for entries in given.entries:
        odd = torch.from_numpy(entries.rows % 2 == 1).to(out.device)
        units = torch.where(odd, torch.full_like(state.like, 1j), torch.ones_like(state.like))
        state.entries.append(Entries(entries.rows // 2, entries.columns, entries.values * units))
    return state


@_scaling("complex")
def complex_of_parts(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of real + i imag."""
    state = state_of(out)
    for value, unit in zip(call.args[:2], (1, 1j), strict=True):
        if reader.depends(value):
            state.add_all(reader.state(value), scaled(unit))
    return state


@_scaling("_conj", "_conj_physical", "conj_physical")
def conjugate(reader: States, call: Call, out: torch.Tensor) -> State:
    """Return the state of the conjugate: its coefficients are conjugates."""
    state = state_of(out)
    state.add_all(
        reader.state(call.args[0]), lambda c: c.conj_physical() if isinstance(c, torch.Tensor) else c.conjugate()
    )
    return state
