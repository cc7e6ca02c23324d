"""Build the program of a Jacobian's nonzeros, by one reading of f's tangent program."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from traceback import clear_frames

import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from .._base.errors import TorchjacError, first_line
from .._base.words import Args, Direction, UserFunction
from .._function.flat import FlatFunction
from .._function.leaves import Leaf
from .._matrices.pattern import SparsityPattern
from .._tangent.delicate import FORWARD, FUNCTIONAL
from .._tangent.isolation import normal, traced
from .._tangent.source import raising_line
from .coefficients.slots import State
from .emission import MissingEntriesError, Source, emit
from .errors import NOT_FOLLOWED, CannotAccumulateError
from .reading.reader import Reader
from .tape.columns import columnwise
from .tape.recorder import Recorder
from .tape.signs import move_signs
from .tape.tape import Tape

_NOT_PURE = "functionalize"  # in the errors of the transform


@dataclass(frozen=True)
class Program:
    """``tape`` computes the values of a pattern's entries, (nnz,), row-major, from the tensors of args.

    Attributes
    ----------
    direction: whether the program of ``jvp`` was read, or that of ``vjp``.
    slots: the number of index maps of each output (forward) or input (reverse); irregular entries count as one.
    regular: share of the values that come out in order, without a gather.
    numbers: how many numbers all ops write, each distinct op once; roughly the cost of an evaluation.
    product: how many numbers one JVP or VJP writes in addition to f itself.
    width: how many coefficients each of these numbers has in the program, on average.
    irregular: whether the dependence of some output (or input) has irregular entries.
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
        """The number of tensor ops in one evaluation."""
        return sum(node.is_call for node in self.tape.nodes)

    @cached_property
    def graph(self) -> torch.fx.GraphModule:
        """The program as a graph, to be compiled."""
        return self.tape.module()

    @cached_property
    def _run(self) -> Callable[..., torch.Tensor]:
        return self.tape.runner()

    def __call__(self, args: Args) -> torch.Tensor:
        """Return the values of the entries at ``args``, (nnz,)."""
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
    deadline: float = math.inf,
) -> Program:
    """Build the program from f's tangent program (forward) or its transpose (reverse) at ``args``.

    ``part``: entries that the pattern does not have are left out; otherwise there must be none.
    ``symmetric``: the Jacobian is symmetric, as that of a gradient. ``most``: how many numbers may be written.
    ``deadline``: the time, of ``time.perf_counter``, by which f must have been read.

    Raises
    ------
    CannotAccumulateError: an op has no second reading, or makes more than ``limit`` coefficients, or all of
        them write more than ``most`` numbers, or reading takes too long.
    MissingEntriesError: f has an entry that the pattern does not have.
    """
    try:
        try:
            return _build(function, args, pattern, direction, limit, part, symmetric, most, deadline, pure=True)
        except CannotAccumulateError as refusal:
            if _NOT_PURE not in refusal.why.lower():
                raise
        return _build(function, args, pattern, direction, limit, part, symmetric, most, deadline, pure=False)
    except (CannotAccumulateError, MissingEntriesError, TorchjacError):
        raise
    except Exception as error:  # a fault of ours in writing the program: products are right without it
        raise CannotAccumulateError("f", f"{NOT_FOLLOWED} ({type(error).__name__}: {first_line(error)})") from error


def _build(
    function: FlatFunction,
    args: Args,
    pattern: SparsityPattern,
    direction: Direction,
    limit: int,
    part: bool,
    symmetric: bool,
    most: int | None,
    deadline: float,
    pure: bool,
) -> Program:
    """Build the program; ``pure``: writes in place become new tensors, which some autograd.Functions do not allow."""
    flat, spec = tree_flatten(args)
    own = [t.detach() if isinstance(t, torch.Tensor) else t for t in flat]
    given = [t for t in own if isinstance(t, torch.Tensor)]
    recorder = Recorder(most)
    reader = Reader(recorder, limit, deadline)
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
    by_columns = columnwise(move_signs(recorder.program(values)))
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
    """Return what each end of the tangent program depends on."""
    leaves = function.leaves(args)
    run = (_pushed if direction == "forward" else _pulled)(function, args, len(leaves))
    run = torch.func.functionalize(run, remove="mutations") if pure else run

    def read() -> Sequence[torch.Tensor]:
        with _own_dispatch():
            results: Sequence[torch.Tensor] = run(*leaves, *directions)
            return results

    try:
        results = traced(function, reader, read)
    except (CannotAccumulateError, TorchjacError):
        raise
    except Exception as error:  # no formula in this direction, or a write to memory from outside
        raise reader.refused or CannotAccumulateError("f", first_line(error), raising_line(error)) from error
    if reader.refused is not None:
        raise reader.refused
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
    """Restore the dispatch keys of PyTorch at the end.

    Some of PyTorch's Python functions switch keys off by a local variable. If they raise, it lives as long as the
    traceback, and resets the keys when that is freed: so the frames are cleared here.
    """
    included, excluded = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()
    with torch._C._ForceDispatchKeyGuard(included, excluded):
        try:
            yield
        except Exception as error:  # whatever it is, it goes on; its frames would hold the keys
            clear_frames(error.__traceback__)
            raise


def _pushed(function: FlatFunction, args: Args, count: int) -> UserFunction:
    def jvp(*given: torch.Tensor) -> object:
        return torch.func.jvp(function.bind(args), given[:count], given[count:])[1]

    return jvp


def _pulled(function: FlatFunction, args: Args, count: int) -> UserFunction:
    def vjp(*given: torch.Tensor) -> object:
        return torch.func.vjp(function.bind(args), *given[:count])[1](tuple(given[count:]))

    return vjp


def _sources(states: Sequence[State], ends: Sequence[Leaf], transposed: bool) -> Iterator[Source]:
    for state, leaf in zip(states, ends, strict=True):
        for slot in state.slots:
            yield Source.of_slot(state, slot, slot.map.flat - 1, leaf.start, transposed)
        for entries in state.entries:
            yield Source.of_entries(entries, leaf.start, transposed)
