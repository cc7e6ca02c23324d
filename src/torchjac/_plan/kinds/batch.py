"""Batch Jacobians: are the samples independent, and which products run.

A few samples are traced first: if they can meet, the op that lets them is known by name. Then the probe compares the
blocks with a product over the whole batch, in which a meeting, or a wrong formula, shows as a wrong number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from ..._base.errors import (
    DerivativeMismatchError,
    InputError,
    InteractionError,
    OptionError,
    OutputError,
    StalePatternError,
    not_differentiable,
)
from ..._base.random_state import RandomState
from ..._base.words import Args, Direction, Mode
from ..._coloring.colors import ColumnColors, RowColors
from ..._detection.samples import Meeting, SampleTrace, trace_samples
from ..._function.flat import FlatFunction, refuse_complex
from ..._function.kernels import with_reference_kernels
from ..._function.leaves import Leaf, describe, with_paths
from ..._matrices.pattern import SparsityPattern
from ..._products.reverse import Reverse
from ..._products.run import Run
from ..._strategies.batched import Batch, Batched
from ..._strategies.budget import fit_chunks
from ..._strategies.candidates import Candidate, Choice
from ..._strategies.strategy import Strategy
from ..._strategies.symmetric import StoredEntries
from ..._tangent.delicate import look_for_delicate
from ..._verification.adjoint_probe import probe
from ..._verification.gradient_probe import Combination, all_entries
from ..batch_cache import modules_of
from ..goal import Goal
from ..options import Options
from ..result import Blockwise
from ..retrying import Other
from .kind import Measuring

_FEW = 3  # samples along each batch dimension that are traced


@dataclass(frozen=True)
class Trace:
    """The findings of a trace of the samples ``of`` a batch, and an example of what f returns for them."""

    of: Batch
    seen: SampleTrace
    output: Any


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchGoal(Goal):
    """The blocks of the samples of ``batch``, a few of which were traced."""

    batch: Batch
    trace: Trace

    @property
    def needs_forward(self) -> bool:
        """A VJP adds up the derivatives by a shared input over all samples."""
        return any(self.batch.shared)


class BatchJacobian:
    """The Jacobian of every sample; ``batched`` says for each argument whether it has the ``dims`` batch dimensions."""

    accumulates = False
    hessian = False

    def __init__(self, dims: int, batched: tuple[bool, ...]) -> None:
        self._dims, self._batched = dims, batched

    # ---- which samples there are, and whether they meet

    def goal(self, function: FlatFunction, args: Args, options: Options, once: bool, run: Run | None) -> BatchGoal:
        """Every sample on its own; a trace of a few says where that is in doubt."""
        shape = self._batch_shape(args)
        shared = [not self._batched[p] for p in function.positions for _ in pytree.tree_leaves(args[p])]
        batch = Batch(shape, tuple(shared))
        with RandomState(function.device).again():
            trace = self._trace_few(function, args, batch, options)
            if trace.seen.meeting is None:
                function.expect(trace.output)
            else:  # what f returns may depend on how many samples there are
                function.look(args)
        _check_outputs(function.outputs, shape)
        if trace.seen.meeting is not None:
            self._confirm(function, args, batch, trace, trace.seen.meeting)
        refuse_complex(function)
        pattern = batch.pattern(function)
        pattern.delicate = trace.seen.delicate
        stored = self.stored_entries(pattern, options)
        return BatchGoal(function, stored, options, once, run, batch=batch, trace=trace)

    def stored_entries(self, pattern: SparsityPattern, options: Options) -> StoredEntries:
        """Every entry."""
        return StoredEntries(pattern, pattern, None)

    def _batch_shape(self, args: Args) -> torch.Size:
        """The first dimensions of all batched tensors; InputError names one that has others."""
        names = [
            (f"args[{p}]{path}", t)
            for p, arg in enumerate(args)
            if self._batched[p]
            for path, t in with_paths(arg)
            if isinstance(t, torch.Tensor)
        ]
        if not names:
            raise InputError("no argument is batched", expected="at least one tensor with the batch dimensions")
        shape = names[0][1].shape[: self._dims]
        for name, t in names:
            if t.dim() < self._dims or t.shape[: self._dims] != shape:
                raise InputError(
                    f"{name} is {describe(t)}",
                    expected=f"{list(shape)} as its first {self._dims} dimensions, as in {names[0][0]}"
                    if len(shape) == self._dims
                    else f"at least {self._dims} dimensions, because batch_dims={self._dims}",
                    instead="batched=(True, False, ...), with False for arguments that all samples share",
                )
        return shape

    def _trace_few(self, function: FlatFunction, args: Args, batch: Batch, options: Options) -> Trace:
        """A trace of a few samples, with an output of all; a trace of all where f cannot take a few."""
        few = Batch(torch.Size(min(_FEW, size) for size in batch.shape), ())
        cut = tuple(slice(0, size) for size in few.shape)
        some = tuple(
            pytree.tree_map(lambda t: t[cut] if isinstance(t, torch.Tensor) else t, a) if own else a
            for a, own in zip(args, self._batched, strict=True)
        )
        try:
            trace = self._trace(function, some, few, options)
        except Exception:  # something in f is of the size of the batch; what else is wrong is raised again below
            return self._trace(function, args, batch, options)
        output = pytree.tree_map(lambda t: t.new_empty(()).expand(batch.shape + t.shape[self._dims :]), trace.output)
        return Trace(few, trace.seen, output)

    def _trace(self, function: FlatFunction, args: Args, traced: Batch, options: Options) -> Trace:
        """A trace of the samples ``traced``; without a check, f is only run."""
        own = tuple(p for p in function.positions if self._batched[p])
        few = FlatFunction(function.f, args, own or function.argnums, options.has_aux)
        seen = SampleTrace(None)
        if own and options.check:
            seen = trace_samples(few, args, _numbers(traced), traced.count)
        else:
            seen = SampleTrace(None, delicate=look_for_delicate(few, args))
        _check_outputs(few.outputs, traced.shape)
        return Trace(traced, seen, few.examples()[1])

    def _confirm(self, function: FlatFunction, args: Args, batch: Batch, trace: Trace, met: Meeting) -> None:
        """Raise if a random cotangent of the reader alone reaches another sample; zeros are exact."""
        reader = _in_batch(batch, trace, met.reader)
        mine = batch.samples(function.outputs) == reader
        u = torch.randn(function.m, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * mine
        with torch.no_grad(), RandomState(function.device).again():
            try:
                reached = Reverse(function, args, plain=True).one(u.to(function.device, function.dtype)).cpu()
            except RuntimeError as error:
                raise not_differentiable(error) from error
        for leaf, shared, _ in batch.inputs(function):
            if shared:
                continue
            by_sample = reached[leaf.start : leaf.stop].reshape(batch.count, -1).abs().amax(1)
            by_sample[reader] = 0
            if bool((by_sample != 0).any()):
                raise _interaction(function, batch, met, reader, int(by_sample.argmax()))

    # ---- products

    def instead(self, function: FlatFunction, error: Exception) -> Other | None:
        """Return None: a function that is differentiated once has no other way."""
        return None

    def with_reference_kernels(self, function: FlatFunction) -> FlatFunction:
        """F on kernels that can be differentiated twice."""
        return function.running(with_reference_kernels(function.f))

    def choose(self, goal: Goal, mode: Mode, measuring: Measuring | None) -> Choice:
        """The direction with the fewest products, unless one was asked for or an input is shared."""
        assert isinstance(goal, BatchGoal)
        function, batch = goal.function, goal.batch
        n, m = batch.inputs(function)[-1][2].stop, batch.outputs(function)[-1][2].stop
        shared = any(batch.shared)
        if shared and mode == "reverse":
            raise OptionError(
                "reverse mode for the derivative by an input that all samples share",
                expected="forward mode: one JVP an element of the shared input",
                why="a VJP adds up what the samples contribute to it",
                instead="mode='auto'; where f has no (right) forward derivative, the input expanded over the batch",
            )
        direction: Direction = (
            "reverse" if mode == "reverse" or (mode == "auto" and m <= n and not shared) else "forward"
        )
        coloring = (ColumnColors if direction == "forward" else RowColors)(
            colors=batch.colors(batch.inputs(function) if direction == "forward" else batch.outputs(function)),
            num_colors=n if direction == "forward" else m,
            lower_bound=n if direction == "forward" else m,
            order="batch",
            shape=(function.m, function.n),
        )
        rows = (("forward", n, "JVPs"), ("reverse", m, "VJPs"))
        candidates = [Candidate(f"batched {way}", f"{k:,} {name}", None, way == direction) for way, k, name in rows]
        why = "an input is shared" if shared else "asked for" if mode != "auto" else "the fewest products"
        return Choice(coloring, direction, tuple(candidates), why)

    def strategy(self, goal: Goal, choice: Choice) -> Strategy:
        """The products of one sample, with seeds broadcast over the batch."""
        assert isinstance(goal, BatchGoal)
        return Batched(goal.function, goal.batch, choice.direction)

    def fit(self, goal: Goal, strategy: Strategy, args: Args) -> None:
        """Set how many products run at once; of a large batch they run one after another anyway."""
        assert isinstance(strategy, Batched)
        if goal.options.budget is not None or not strategy.large:
            fit_chunks(strategy, goal.function, args, goal.options.budget)

    # ---- are they right

    def reference(self, goal: Goal) -> FlatFunction:
        """The function itself."""
        return goal.function

    def verify(
        self, goal: Goal, choice: Choice, strategy: Strategy, args: Args, values: torch.Tensor, draws: RandomState
    ) -> None:
        """Compare the blocks with a product of plain autograd over the whole batch."""
        assert isinstance(goal, BatchGoal)
        assert isinstance(strategy, Batched)
        function, batch, met = goal.function, goal.batch, goal.trace.seen.meeting
        try:
            probe(function, args, goal.stored, values, draws, strategy.values, strategy)
        except StalePatternError as error:
            row, column = error.entry
            reader, other = _sample(batch, function.outputs, row), _sample(batch, function.inputs, column)
            if met is None:  # a few samples did not show it: all are traced
                met = self._trace(function, args, batch, goal.options).seen.meeting
            raise _interaction(function, batch, met, reader, other) from error
        except DerivativeMismatchError as error:
            if met is None:
                raise
            pair = _in_batch(batch, goal.trace, met.reader), _in_batch(batch, goal.trace, met.other)
            raise _interaction(function, batch, met, *pair) from error

    def combination(self, goal: Goal, choice: Choice, strategy: Strategy, values: torch.Tensor) -> Combination:
        """A random combination of all entries."""
        return all_entries(goal.function, goal.stored, values)

    def doubt(self, goal: Goal) -> str:
        """The reason why samples that did not meet may do so for other values."""
        assert isinstance(goal, BatchGoal)
        seen = goal.trace.seen
        if seen.meeting is not None:
            return f"samples could meet in {_place(seen.meeting)} and did not"
        return f"f decides by a value what to run ({seen.decided})" if seen.decided else ""

    def result(self, goal: Goal, strategy: Strategy) -> Blockwise:
        """One tensor (*batch, *output, *input) for each output and input."""
        assert isinstance(strategy, Batched)
        return Blockwise(goal.function, strategy.blocks)


def _in_batch(batch: Batch, trace: Trace, traced: int) -> int:
    """The number that a traced sample has in the whole batch."""
    return int(np.ravel_multi_index(np.unravel_index(traced, trace.of.shape), batch.shape))


def _sample(batch: Batch, leaves: Sequence[Leaf], place: int) -> int:
    """The number of the sample that has the element at ``place`` of ravelled leaves."""
    leaf = next(leaf for leaf in leaves if leaf.start <= place < leaf.stop)
    return (place - leaf.start) // batch.event(leaf).numel()


def _interaction(
    function: FlatFunction, batch: Batch, met: Meeting | None, reader: int, other: int
) -> InteractionError:
    """The error that names two samples and what mixes them."""
    names = batch.names(reader), batch.names(other)
    place = "an op that could not be traced" if met is None else _place(met)
    norms = [m for m in modules_of(function.f) if isinstance(m, _BatchNorm) and m.training]
    return InteractionError(
        f"samples {names[0]} and {names[1]} of the batch interact: the output of the first depends on the second",
        expected="each sample's output computed from that sample (and shared arguments) alone",
        why=f"{place} mixes samples",
        instead="model.eval(), because a BatchNorm in training mode reads the whole batch"
        if norms
        else "jacobian(f, *args) for the derivatives across samples, or fewer batch_dims",
    )


def _place(met: Meeting) -> str:
    return f"{met.op}, at {met.line}," if met.line else met.op


def _numbers(batch: Batch) -> Callable[[Sequence[Leaf]], torch.Tensor]:
    def samples(leaves: Sequence[Leaf]) -> torch.Tensor:
        _check_outputs(leaves, batch.shape)
        return batch.samples(leaves)

    return samples


def _check_outputs(leaves: Sequence[Leaf], shape: torch.Size) -> None:
    for leaf in leaves:
        if leaf.shape[: len(shape)] != shape:
            raise OutputError(
                f"{leaf}",
                expected=f"{list(shape)} as its first dimensions: those of the batch",
                why="a batch Jacobian has a block for each sample, (*batch, *output, *input)",
                instead="batch_dims=... as many as f keeps, or jacobian(f, *args)",
            )
