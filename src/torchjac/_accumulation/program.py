"""Build the program of a Jacobian's nonzeros: f's tangent program read once, and what is left to run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from .._function import FlatFunction, Leaf
from .._lock import PROCESS_WIDE
from .._pattern import SparsityPattern
from .._tangent.kernels import reference_kernels
from .columns import columnwise
from .emission import Source, emit
from .reader import Reader
from .recorder import Recorder
from .refusal import CannotAccumulateError
from .slots import State

Direction = Literal["forward", "reverse"]


@dataclass(frozen=True)
class Program:
    """``graph(*tensors of args)`` gives the values of a pattern's entries, (nnz,), row-major.

    Attributes
    ----------
    direction: whether the program of ``jvp`` was read, or that of ``vjp``.
    slots: of each output (forward) or input (reverse), how many index maps; the last of them irregular entries.
    work: coefficients computed in all, those that are numbers included.
    regular: share of the values that come out in order, without a gather.
    """

    graph: torch.fx.GraphModule
    direction: Direction
    slots: tuple[int, ...]
    work: int
    regular: float

    def __call__(self, args: tuple[Any, ...]) -> torch.Tensor:
        """(nnz,)."""
        values: torch.Tensor = self.graph(*(t for t in tree_leaves(args) if isinstance(t, torch.Tensor)))
        return values


def build(
    function: FlatFunction, args: tuple[Any, ...], pattern: SparsityPattern, direction: Direction, limit: int
) -> Program:
    """Read f's tangent program (forward) or that of its transpose (reverse) at ``args``.

    Raises
    ------
    CannotAccumulateError: an op has no second reading, or makes more than ``limit`` coefficients.
    """
    flat, spec = tree_flatten(args)
    own = [t.detach() if isinstance(t, torch.Tensor) else t for t in flat]
    inner = tree_unflatten(own, spec)
    recorder = Recorder()
    for t in own:
        if isinstance(t, torch.Tensor):
            recorder.take(t)
    reader = Reader(recorder, limit)
    for t in own:
        if isinstance(t, torch.Tensor) and t.is_floating_point():
            reader.mark(t)
    leaves, sources = function.leaves(inner), function.inputs if direction == "forward" else function.outputs
    directions = [_normal(leaf) for leaf in sources]
    for leaf, t in zip(sources, directions, strict=True):
        reader.seed(t, torch.arange(leaf.start + 1, leaf.stop + 1).reshape(leaf.shape))
    run = _pushed if direction == "forward" else _pulled
    with _untouched(function, reader), torch.no_grad(), recorder:
        with reader:
            results = torch.func.functionalize(run(function, inner, len(leaves)), remove="mutations")(*leaves, *directions)
        if reader.local:
            raise CannotAccumulateError(reader.notes[0].op, "the structure depends on values", reader.notes[0].line)
        states = [reader.state(t) for t in results]
        ends = function.outputs if direction == "forward" else function.inputs
        values, regular = emit(_sources(states, ends, direction), pattern, function.dtype, function.device, recorder)
    graph = columnwise(recorder.program(values), [t for t in own if isinstance(t, torch.Tensor)])
    slots = tuple(len(state.slots) + bool(state.entries) for state in states)
    return Program(graph, direction, slots, reader.work, regular)


def _pushed(function: FlatFunction, args: tuple[Any, ...], count: int) -> Any:
    def jvp(*given: torch.Tensor) -> Any:
        return torch.func.jvp(function.bind(args), given[:count], given[count:])[1]

    return jvp


def _pulled(function: FlatFunction, args: tuple[Any, ...], count: int) -> Any:
    def vjp(*given: torch.Tensor) -> Any:
        return torch.func.vjp(function.bind(args), *given[:count])[1](tuple(given[count:]))

    return vjp


def _sources(states: Sequence[State], ends: Sequence[Leaf], direction: Direction) -> Iterator[Source]:
    for state, leaf in zip(states, ends, strict=True):
        for slot in state.slots:
            ids = slot.map.ids.reshape(-1).numpy() - 1
            yield Source.of_slot(state, slot, ids, leaf.start, direction == "reverse")
        for entries in state.entries:
            yield Source.of_entries(entries, leaf.start, direction == "reverse")


@contextmanager
def _untouched(function: FlatFunction, reader: Reader) -> Iterator[None]:
    devices = {leaf.device.index or 0 for leaf in function.inputs if leaf.device.type == "cuda"}
    with PROCESS_WIDE, torch.random.fork_rng(devices=devices), reference_kernels():
        try:
            yield
        finally:
            reader.journal.restore()


def _normal(like: Leaf) -> torch.Tensor:
    generator = torch.Generator(like.device).manual_seed(0)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
