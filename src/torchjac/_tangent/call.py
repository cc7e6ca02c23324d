"""An op call with its arguments by name, as a rule is given it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeGuard

import torch
from torch.utils._pytree import tree_map

from .._base.words import Args, Kwargs, OpArgument, OpResult, UserFunction
from .relations import Along, Ids, Of


@cache
def base_name(op: torch._ops.OpOverload) -> str:
    """Return the family that a rule is written for: ``add`` for aten::add.Tensor, add_.Tensor and add.out."""
    namespace, name = op._schema.name.split("::")
    if op._schema.is_mutable and name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    return name if namespace == "aten" else f"{namespace}::{name}"


@cache
def schema_arguments(op: torch._ops.OpOverload) -> tuple[tuple[str, OpArgument, bool], ...]:
    """Return (name, default, whether it is an ``out=`` argument) of every argument."""
    return tuple((a.name, a.default_value if a.has_default_value() else None, a.is_out) for a in op._schema.arguments)


# Ops that update running statistics without saying so in their schema.
_SILENT_WRITES = {
    "native_batch_norm": ("running_mean", "running_var"),
    "cudnn_batch_norm": ("running_mean", "running_var"),
    "miopen_batch_norm": ("running_mean", "running_var"),
    "_batch_norm_impl_index": ("running_mean", "running_var"),
}


@cache
def writes(op: torch._ops.OpOverload) -> frozenset[str]:
    """The names of the arguments that the op writes to."""
    declared = {a.name for a in op._schema.arguments if a.alias_info is not None and a.alias_info.is_write}
    return frozenset(declared.union(_SILENT_WRITES.get(base_name(op), ())))


@cache
def returns_views(op: torch._ops.OpOverload) -> bool:
    """Whether every output aliases an input whose numbers the op leaves alone, or may do so."""
    schema = op._schema
    if torch.Tag.inplace_view in op.tags:
        return True
    return bool(schema.returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)


def written(op: torch._ops.OpOverload, args: Args, kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The tensors that the op writes to."""
    found: list[torch.Tensor] = []
    for position, (name, _, _) in enumerate(schema_arguments(op)):
        if name in writes(op):
            value = args[position] if position < len(args) else kwargs.get(name)
            values = value if isinstance(value, (list, tuple)) else (value,)
            found.extend(t for t in values if isinstance(t, torch.Tensor))
    return found


class Call:
    """``op(*args, **kwargs) -> out``, and which of its tensors depend on v (``depends``) or on x (``marked``)."""

    def __init__(
        self,
        op: torch._ops.OpOverload,
        args: Args,
        kwargs: Kwargs,
        depends: Callable[[torch.Tensor], bool] = lambda t: False,
        marked: Callable[[torch.Tensor], bool] = lambda t: False,
        choice: Callable[[torch.Tensor], Along | None] = lambda index: None,
    ) -> None:
        self.op, self.args, self.kwargs = op, args, kwargs
        self._depends, self._marked = depends, marked
        self.choice = choice
        self.out: OpResult = None
        self.widened = False  # whether a rule was told that an index or mask was computed from x

    def __getitem__(self, name: str) -> OpArgument:
        """The argument called ``name``, or its default."""
        for position, (argument, default, _) in enumerate(schema_arguments(self.op)):
            if argument == name:
                return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)
        raise KeyError(f"{self.op} has no argument {name!r}")

    def has(self, name: str) -> bool:
        """Whether the op has an argument of that name."""
        return any(argument == name for argument, _, _ in schema_arguments(self.op))

    def depends(self, value: object) -> TypeGuard[torch.Tensor]:
        """Whether ``value`` is a tensor that depends on v."""
        return isinstance(value, torch.Tensor) and self._depends(value)

    def marked(self, value: object) -> bool:
        """Whether ``value`` is a tensor (or a list with one) that was computed from x."""
        found = self.from_x(value)
        self.widened = self.widened or found
        return found

    def from_x(self, value: Any) -> bool:
        """Whether ``value`` was computed from x, for a rule that does not take it to be any value."""
        values = value if isinstance(value, (list, tuple)) else (value,)
        return any(isinstance(v, torch.Tensor) and self._marked(v) for v in values)

    @property
    def operands(self) -> list[torch.Tensor]:
        """The tensors among the arguments that depend on v, ``out=`` arguments left out."""
        found: list[torch.Tensor] = []
        for position, (name, default, is_out) in enumerate(schema_arguments(self.op)):
            value = self.args[position] if position < len(self.args) else self.kwargs.get(name, default)
            if is_out:
                continue
            for t in value if isinstance(value, (list, tuple)) else (value,):
                if self.depends(t) and not any(t is known for known in found):
                    found.append(t)
        return found

    def again(self, of: Of, *moved: str, **replaced: OpArgument) -> Ids:
        """Run the op on ids instead of the arguments named ``moved``, with others ``replaced`` by keyword."""
        positional, keywords = [], {}
        for position, (name, default, is_out) in enumerate(schema_arguments(self.op)):
            value = self.args[position] if position < len(self.args) else self.kwargs.get(name, default)
            if is_out:
                continue
            if name in replaced:
                value = replaced[name]
            elif name in moved:
                value = tree_map(lambda t: of(t) if isinstance(t, torch.Tensor) else t, value)
            elif name == "layout" or name == "device":
                value = None
            else:
                value = tree_map(lambda t: t.cpu() if isinstance(t, torch.Tensor) else t, value)
            if self.op._schema.arguments[position].kwarg_only:
                keywords[name] = value
            else:
                positional.append(value)
        out: Ids = _functional(self.op)(*positional, **keywords)
        return out


@cache
def _functional(op: torch._ops.OpOverload) -> UserFunction:
    """Return the form of the op that makes a new tensor: its packet, if the op writes in place or to ``out=``."""
    namespace, name = op._schema.name.split("::")
    if not op._schema.is_mutable:
        return op
    if name.endswith("_"):
        name = name[:-1]
    packet: UserFunction = getattr(getattr(torch.ops, namespace), name)
    return packet
