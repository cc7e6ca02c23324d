"""The recorder: every tensor op that runs under it becomes a node of a tape, each distinct computation once.

Ops whose operands are all made of constants leave no node: what they return is a constant. A tensor from outside (a
parameter, a buffer, a closure) is referred to, not copied, so the program follows what is written to it later.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable
from functools import cache

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from ..._base.words import Args, Kwargs, OpResult
from ..._tangent.call import base_name
from ..._tangent.shadow import in_memory
from ..._tangent.trace import is_view
from ..._tangent.values import tensors
from ..errors import CannotAccumulateError
from ..tensor_map import TensorMap, is_one_number
from .tape import Node, Tape, replaced


class Recorder(TorchDispatchMode):
    """A mode: ``take`` the inputs, run ops inside, then ask for the ``program`` of the results."""

    def __init__(self, most: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        self.numbers, self._most = 0, most  # written by one evaluation, and how many may be
        self._tape = Tape()
        # the node of what depends on something that may change; _CONSTANT of what was computed from constants alone
        self._seen: TensorMap[object] = TensorMap()
        self._held: TensorMap[Node] = TensorMap()  # of tensors that the program refers to
        self._filled: dict[Hashable, Node] = {}  # of constants that are one number throughout
        self._likes: dict[Hashable, torch.Tensor] = {}
        self.stage = 0  # of the nodes recorded from now on; later stages are compiled apart

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: otherwise torch imports Dynamo (1 s) at the first op."""
        return False

    def take(self, t: torch.Tensor) -> None:
        """Make t the next input of the program."""
        self._seen[t] = _marked(self._tape.input(), t, t)

    def is_constant(self, t: torch.Tensor) -> bool:
        """Whether t's numbers are known now, and the same in every call."""
        seen = self._seen.get(t)
        return seen is _CONSTANT or (seen is None and not (t.is_floating_point() or t.is_complex()))

    def equate(self, t: torch.Tensor, other: torch.Tensor) -> None:
        """Let t stand for what computes ``other``, which has the same numbers."""
        self._seen[t] = self._node(other)

    def program(self, out: torch.Tensor) -> Tape:
        """Return what computes ``out`` from the inputs, and nothing else; ``like`` of every node has been set."""
        self._tape.end(self._node(out))
        return self._tape

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> OpResult:
        kwargs = kwargs or {}
        given = tensors(args) + tensors(kwargs.values()) if kwargs else tensors(args)
        if any(map(torch._is_zerotensor, given)):
            args, kwargs = tree_map_only(torch.Tensor, self._with_memory, (args, kwargs))
            given = tensors(args) + tensors(kwargs.values())
        constant = all(map(self.is_constant, given))
        kind = _kind(func)
        if not constant and kind == "mutable":
            raise CannotAccumulateError(base_name(func), "it writes to a tensor in place")
        out = func(*args, **kwargs)
        if kind == "random":
            raise CannotAccumulateError(str(func), "random numbers, which would be the same in every call")
        if constant or kind == "fresh":
            for t in tensors((out,)):
                self._seen[t] = _CONSTANT
        elif kind == "same" and isinstance(out, torch.Tensor) and _alike(out, given[0]):
            self._seen[out] = self._node(given[0])  # the same numbers in the same order: no op is needed
        else:
            self._record(func, args, kwargs, out)
        return out

    def _with_memory(self, t: torch.Tensor) -> torch.Tensor:
        """Return zeros that have numbers, for those that PyTorch keeps without; other tensors as they are."""
        if not torch._is_zerotensor(t):
            return t
        zeros = in_memory(t)
        self._seen[zeros] = _CONSTANT
        return zeros

    def _record(self, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs, out: OpResult) -> None:
        own = replaced((args, kwargs), self._node, torch.Tensor)
        node, new = self._tape.call(func, *own)
        if new:
            node.stage, node.like = self.stage, self._like(out)
            self._count(func, out)
        if isinstance(out, torch.Tensor):
            self._seen[out] = _marked(node, out, node.like)
        elif isinstance(out, (tuple, list)):
            for k, t in enumerate(out):
                if isinstance(t, torch.Tensor):
                    item, _ = self._tape.call(operator.getitem, (node, k))
                    item.stage, item.like = self.stage, node.like[k]
                    self._seen[t] = item

    def _like(self, out: OpResult) -> OpResult:
        """Return a tensor of that shape and dtype, without memory; integers (indices) and booleans keep theirs."""
        if not isinstance(out, torch.Tensor):
            return type(out)(map(self._like, out)) if isinstance(out, (list, tuple)) else out
        if not (out.is_floating_point() or out.is_complex()):
            return out.detach()
        key = out.shape, out.dtype, out.device
        if key not in self._likes:
            self._likes[key] = out.new_empty(()).expand(out.shape)
        return self._likes[key]

    def _count(self, func: torch._ops.OpOverload, out: OpResult) -> None:
        self.numbers += 0 if is_view(func) else sum(t.numel() for t in tensors((out,)))
        if self._most is not None and self.numbers > self._most:
            raise CannotAccumulateError(base_name(func), f"more than {self._most:,} numbers are written")

    def _node(self, t: torch.Tensor) -> Node:
        """Return the node of t; a reference to t itself where no op computed it from something that may change."""
        seen = self._seen.get(t)
        if isinstance(seen, Node):
            return seen
        held = self._held.get(t)
        if held is None:
            kept = in_memory(t)
            filled = _filled_with(kept) if seen is _CONSTANT else None
            held = self._filled.get(filled)
            if held is None:
                held = _marked(self._tape.tensor(kept), t, kept)
            if filled is not None:
                self._filled[filled] = held
            self._held[t] = held
        return held


def _filled_with(t: torch.Tensor) -> Hashable:
    """A key that tells apart tensors of one repeated number; None for other tensors."""
    if t.device.type != "cpu" or not is_one_number(t):
        return None
    return repr(t.reshape(-1)[0].tolist()), t.shape, t.stride(), t.dtype


def _marked(node: Node, t: torch.Tensor, like: OpResult) -> Node:
    """Return the node of t with ``like`` set; where t is real, with its dtype."""
    node.like = like
    if t.is_floating_point():
        node.dtype = t.dtype
    return node


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    lazy = a.is_conj() != b.is_conj() or a.is_neg() != b.is_neg()
    return not lazy and (a.shape, a.stride(), a.dtype, a.layout) == (b.shape, b.stride(), b.dtype, b.layout)


@cache
def _kind(func: torch._ops.OpOverload) -> str:
    """Return what is special about an op, in a word; empty for most."""
    if torch.Tag.nondeterministic_seeded in func.tags:
        return "random"
    if func._schema.is_mutable:
        return "mutable"
    return "fresh" if base_name(func) in _FRESH else "same" if base_name(func) in _SAME else ""


_CONSTANT = object()
_SAME = frozenset({"alias", "expand", "view", "clone", "_to_copy", "slice"})
_FRESH = frozenset(  # ops that use at most the shape of an operand
    "lift_fresh lift_fresh_copy zeros_like ones_like full_like new_zeros new_ones new_full "
    "_new_zeros_with_same_feature_meta".split()
)
