"""Build the program of a Jacobian's nonzeros: f's tangent program read once, and what is left to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from traceback import clear_frames
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from .._base.errors import first_line
from .._base.words import Args, Direction
from .._function.flat import FlatFunction
from .._function.leaves import Leaf
from .._matrices.pattern import SparsityPattern
from .._tangent.delicate import FORWARD, FUNCTIONAL
from .._tangent.isolation import normal, traced
from .._tangent.source import raising_line
from .coefficients.slots import State
from .emission import Source, emit
from .errors import CannotAccumulateError
from .reading.reader import Reader
from .tape.columns import columnwise
from .tape.recorder import Recorder
from .tape.signs import unsigned
from .tape.tape import Tape

_NOT_PURE = "functionalize"  # in the errors of the transform


@dataclass(frozen=True)
class Program:
    """``tape`` computes the values of a pattern's entries, (nnz,), row-major, from the tensors of args.

    Attributes
    ----------
    direction: whether the program of ``jvp`` was read, or that of ``vjp``.
    slots: of each output (forward) or input (reverse), how many index maps; the last of them irregular entries.
    regular: share of the values that come out in order, without a gather.
    numbers: how many numbers all ops write, those that repeat aside; what an evaluation costs, roughly.
    product: how many numbers the ops write that a JVP or VJP adds to f, for each product.
    width: how many coefficients each of these has here, on average.
    irregular: whether some of what comes out has entries, in no order that slots have.
    """

    tape: Tape
    direction: Direction
    slots: tuple[int, ...]
    regular: float
    numbers: int
    product: int
    width: float
    irregular: bool

    @property
    def ops(self) -> int:
        """How many tensor ops one evaluation takes."""
        return sum(node.is_call for node in self.tape.nodes)

    @cached_property
    def graph(self) -> torch.fx.GraphModule:
        """The same as a graph, to be compiled."""
        return self.tape.module()

    @cached_property
    def _run(self) -> Callable[..., torch.Tensor]:
        return self.tape.runner()

    def __call__(self, args: Args) -> torch.Tensor:
        """(nnz,)."""
        return self._run(*(t for t in tree_leaves(args) if isinstance(t, torch.Tensor)))


def build(
    function: FlatFunction,
    args: Args,
    pattern: SparsityPattern,
    direction: Direction,
    limit: int,
    part: bool = False,
    symmetric: bool = False,
    most: int | None = None,
) -> Program:
    """Read f's tangent program (forward) or that of its transpose (reverse) at ``args``.

    ``part``: entries that the pattern does not have are left out; otherwise there must be none.
    ``symmetric``: the Jacobian is, as one of a gradient. ``most``: no more numbers than so many may be written.

    Raises
    ------
    CannotAccumulateError: an op has no second reading, or makes more than ``limit`` coefficients, or all of
        them write more than ``most`` numbers.
    MissingEntriesError: f has an entry that the pattern does not have.
    """
    try:
        return _build(function, args, pattern, direction, limit, part, symmetric, most, pure=True)
    except CannotAccumulateError as refusal:
        if _NOT_PURE not in refusal.why.lower():
            raise
    return _build(function, args, pattern, direction, limit, part, symmetric, most, pure=False)


def _build(
    function: FlatFunction,
    args: Args,
    pattern: SparsityPattern,
    direction: Direction,
    limit: int,
    part: bool,
    symmetric: bool,
    most: int | None,
    pure: bool,
) -> Program:
    """``pure``: what f writes in place becomes new tensors, by a transform that some autograd.Functions do not take."""
    flat, spec = tree_flatten(args)
    own = [t.detach() if isinstance(t, torch.Tensor) else t for t in flat]
    given = [t for t in own if isinstance(t, torch.Tensor)]
    recorder = Recorder(most)
    reader = Reader(recorder, limit)
    for t in given:
        recorder.take(t)
        if t.is_floating_point():
            reader.mark(t)
    starts, ends = function.inputs, function.outputs
    if direction == "reverse":
        starts, ends = ends, starts
    directions = [normal(leaf) for leaf in starts]
    for leaf, t in zip(starts, directions, strict=True):
        reader.seed(t, torch.arange(leaf.start + 1, leaf.stop + 1).reshape(leaf.shape))
    with torch.no_grad(), recorder:
        states = _read(function, tree_unflatten(own, spec), directions, direction, reader, pure)
        sources = list(_sources(states, ends, direction == "reverse" and not symmetric))
        values, regular = emit(sources, pattern, function.dtype, function.device, recorder, part, symmetric)
    slots = tuple(len(state.slots) + bool(state.entries) for state in states)
    by_columns = columnwise(unsigned(recorder.program(values)))
    width = reader.coefficients / max(reader.numbers, 1)
    irregular = any(state.entries for state in states)
    return Program(by_columns, direction, slots, regular, recorder.numbers, reader.numbers, width, irregular)


def _read(
    function: FlatFunction,
    args: Args,
    directions: Sequence[torch.Tensor],
    direction: Direction,
    reader: Reader,
    pure: bool,
) -> list[State]:
    """What each end of the tangent program depends on."""
    leaves = function.leaves(args)
    run = (_pushed if direction == "forward" else _pulled)(function, args, len(leaves))
    run = torch.func.functionalize(run, remove="mutations") if pure else run

    def read() -> Any:
        with _own_dispatch():
            return run(*leaves, *directions)

    try:
        results = traced(function, reader, read)
    except RuntimeError as error:  # no formula in this direction, or a write to memory from outside
        raise CannotAccumulateError("f", first_line(error), raising_line(error)) from error
    less = reader.computes_less_forward() if direction == "forward" else None
    if less:
        raise CannotAccumulateError(min(less), "its forward formula computes less than its backward")
    wrong = reader.names & (FORWARD | FUNCTIONAL if direction == "forward" else FUNCTIONAL)
    if wrong:
        raise CannotAccumulateError(min(wrong), f"its {direction} formula by torch.func is wrong at some values")
    if reader.local:
        raise CannotAccumulateError(reader.notes[0].op, "the structure depends on values", reader.notes[0].line)
    return [reader.state(t) for t in results]


@contextmanager
def _own_dispatch() -> Iterator[None]:
    """Give dispatch keys back as they were.

    Some of PyTorch's Python functions switch keys off by a local variable. When they raise, it lives as long as the
    traceback, and sets the keys of the moment when that goes: so it goes here.
    """
    included, excluded = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    with torch._C._ForceDispatchKeyGuard(included, excluded):
        try:
            yield
        except RuntimeError as error:
            clear_frames(error.__traceback__)
            raise


def _pushed(function: FlatFunction, args: Args, count: int) -> Any:
    def jvp(*given: torch.Tensor) -> Any:
        return torch.func.jvp(function.bind(args), given[:count], given[count:])[1]

    return jvp


def _pulled(function: FlatFunction, args: Args, count: int) -> Any:
    def vjp(*given: torch.Tensor) -> Any:
        return torch.func.vjp(function.bind(args), *given[:count])[1](tuple(given[count:]))

    return vjp


def _sources(states: Sequence[State], ends: Sequence[Leaf], transposed: bool) -> Iterator[Source]:
    for state, leaf in zip(states, ends, strict=True):
        for slot in state.slots:
            yield Source.of_slot(state, slot, slot.map.flat - 1, leaf.start, transposed)
        for entries in state.entries:
            yield Source.of_entries(entries, leaf.start, transposed)
