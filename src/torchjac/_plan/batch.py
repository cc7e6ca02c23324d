"""Plans of batch Jacobians: are the samples independent, and which products run.

A few samples are traced first: if they can meet, the op that lets them is known by name. Then the probe compares the
blocks with a product over the whole batch, in which a meeting, or a wrong formula, shows as a wrong number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from .._base.errors import (
    DerivativeMismatchError,
    InputError,
    InteractionError,
    OptionError,
    OutputError,
    SignatureError,
    StalePatternError,
    not_differentiable,
)
from .._base.random_state import Draws
from .._base.user_frame import warn
from .._base.words import Args, Check, Direction, Mode, UserFunction, choose
from .._coloring.colors import ColumnColors, RowColors
from .._detection.samples import Meeting, SampleTrace, trace_samples
from .._function.flat import Argnums, FlatFunction, Leaf, describe, with_paths
from .._matrices.pattern import SparsityPattern
from .._products.reverse import Reverse
from .._strategies.batched import Batch, Batched
from .._strategies.budget import fit_chunks
from .._strategies.candidates import Candidate, Choice
from .._verification.adjoint_probe import probe
from .batch_cache import Remembered, modules_of
from .jacobian import JacobianPlan
from .options import Options

_FEW = 3  # samples along each batch dimension that are traced


class BatchOptions(TypedDict, total=False):
    """Keyword arguments of ``batch_jacobian``, with the meaning that they have in ``Options``."""

    mode: Literal["auto", "forward", "reverse"]
    has_aux: bool
    check: Check
    memory: int | str | None
    compile: bool | dict[str, Any]


def batch_plan(
    f: UserFunction,
    args: Args,
    argnums: Argnums,
    dims: int,
    batched: bool | tuple[bool, ...],
    given: dict[str, Any],
) -> BatchPlan:
    """The plan for f at arguments like ``args``: the one that was made before, if f is the same object."""
    for name in given:
        if name not in BatchOptions.__annotations__:
            known = ", ".join(BatchOptions.__annotations__)
            raise OptionError(f"batch_jacobian has no option {name!r}", expected=f"one of batch_dims, batched, {known}")
    options = Options.parse(given)
    choose("mode", options.mode, Literal["auto", "forward", "reverse"])
    own = _one_each(batched, len(args))
    if not isinstance(dims, int) or dims < 1:
        raise OptionError(f"batch_dims={dims!r}", expected="how many dimensions come first: 1 or more")
    if options.check and torch._C._functorch.peek_interpreter_stack() is not None:
        raise OptionError(
            f"batch_jacobian with check={options.check!r} inside a transform of torch.func",
            expected="check=False, after the same f was checked outside",
            why="f cannot be traced inside of a function that is being transformed",
        )
    # keys are compared, not hashed: options may hold a dict
    key = (tuple(argnums) if isinstance(argnums, (list, tuple)) else argnums, dims, own, options)
    return _REMEMBERED.of(
        f, key, lambda plan: plan.fits(args), lambda g: BatchPlan(g, args, argnums, dims, own, options)
    )


def _one_each(batched: Any, count: int) -> tuple[bool, ...]:
    each = (batched,) * count if isinstance(batched, bool) else batched
    if not isinstance(each, (tuple, list)) or len(each) != count or not all(isinstance(b, bool) for b in each):
        raise OptionError(
            f"batched={batched!r} for {count} argument{'s' * (count != 1)}",
            expected="True, or True or False for each argument",
            instead=f"batched={(True, *[False] * (count - 1))!r}",
        )
    return tuple(each)


class BatchPlan(JacobianPlan):
    """The plan behind ``batch_jacobian``; ``batched`` says for each argument whether it has the batch dimensions."""

    _strategy: Batched

    def __init__(
        self,
        f: UserFunction,
        args: Args,
        argnums: Argnums,
        dims: int,
        batched: tuple[bool, ...],
        options: Options,
    ) -> None:
        self._dims, self._batched = dims, batched
        self._seen = SampleTrace(None)
        super().__init__(f, args, argnums, options)

    def fits(self, args: Args) -> bool:
        """Whether ``args`` look like those that the plan was made for."""
        try:
            self._function.check(args)
        except SignatureError:
            return False
        return True

    # ---- which samples there are, and whether they meet

    def _find_pattern(self, args: Args) -> SparsityPattern:
        """Every sample on its own; a trace of a few says where that is in doubt."""
        function = self._function
        shape = self._batch_shape(args)
        shared = [not self._batched[p] for p in function.positions for _ in pytree.tree_leaves(args[p])]
        self._batch = Batch(shape, tuple(shared))
        with Draws(function.device).again():
            output = self._trace_few(args)
            if self._seen.meeting is None:
                function.expect(output)
            else:  # what f returns may depend on how many samples there are
                function.look(args)
        _check_outputs(function.outputs, shape)
        if self._seen.meeting is not None:
            self._confirm(args, self._seen.meeting)
        self.seconds["detection"] = 0.0
        return self._batch.pattern(function)

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

    def _trace_few(self, args: Args) -> Any:
        """What f returns, by its shapes, from a trace of a few samples; of all where f cannot take a few."""
        shape = self._batch.shape
        self._traced = Batch(torch.Size(min(_FEW, size) for size in shape), ())
        cut = tuple(slice(0, size) for size in self._traced.shape)
        few = tuple(
            pytree.tree_map(lambda t: t[cut] if isinstance(t, torch.Tensor) else t, a) if own else a
            for a, own in zip(args, self._batched, strict=True)
        )
        try:
            output = self._trace(few)
        except Exception:  # something in f is of the size of the batch; what else is wrong is raised again below
            self._traced = self._batch
            return self._trace(args)
        return pytree.tree_map(lambda t: t.new_empty(()).expand(shape + t.shape[self._dims :]), output)

    def _trace(self, args: Args) -> Any:
        """What f returns for the samples ``_traced``, by its shapes; with a check, f is looked at for meetings."""
        own = tuple(p for p in self._function.positions if self._batched[p])
        function = FlatFunction(self._function.f, args, own or self._function.argnums, self.options.has_aux)
        if own and self.options.check:
            self._seen = trace_samples(function, args, _numbers(self._traced), self._traced.count)
        else:
            function.look(args)
        _check_outputs(function.outputs, self._traced.shape)
        return function.examples()[1]

    def _confirm(self, args: Args, met: Meeting) -> None:
        """Raise if a random cotangent of the reader alone reaches another sample; zeros are exact."""
        function, batch = self._function, self._batch
        reader = self._in_batch(met.reader)
        mine = batch.samples(function.outputs) == reader
        u = torch.randn(function.m, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * mine
        with torch.no_grad(), Draws(function.device).again():
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
                raise self._interaction(args, reader, int(by_sample.argmax()))

    # ---- what the library's plan does otherwise

    def _prepare(self, mode: Mode, args: Args) -> Batched:
        function, batch = self._function, self._batch
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
        strategy = Batched(function, batch, direction, self._engines)
        kind = ColumnColors if direction == "forward" else RowColors
        coloring = kind(
            colors=strategy.colors,
            num_colors=strategy.num_products,
            lower_bound=strategy.num_products,
            order="batch",
            shape=(function.m, function.n),
        )
        rows = (("forward", n, "JVPs"), ("reverse", m, "VJPs"))
        candidates = [Candidate(f"batched {way}", f"{k:,} {name}", None, way == direction) for way, k, name in rows]
        why = "an input is shared" if shared else "asked for" if mode != "auto" else "the fewest products"
        self._choice = Choice(coloring, direction, tuple(candidates), why)
        self.seconds["coloring"] = 0.0
        if self.options.budget is not None or not strategy.large:
            with torch.no_grad(), Draws(function.device).again():
                fit_chunks(strategy, function, args, self.options.budget)
        self._fitted, self._program = True, None
        return strategy

    def _verify(self, args: Args, values: torch.Tensor, draws: Draws) -> None:
        try:
            probe(self._function, args, self.pattern, values, draws, self._strategy.values, self._strategy)
        except StalePatternError as error:
            row, column = error.entry
            raise self._interaction(args, self._sample(row, "output"), self._sample(column, "input")) from error
        except DerivativeMismatchError as error:
            if (met := self._seen.meeting) is None:
                raise
            raise self._interaction(args, self._in_batch(met.reader), self._in_batch(met.other)) from error
        if self.options.check == "first" and self._doubt:
            self.options = dataclasses.replace(self.options, check="always")
            warn(f"{self._doubt}; every call is checked")

    @property
    def _doubt(self) -> str:
        """Why samples that did not meet may do so for other values."""
        if self._seen.meeting is not None:
            return f"samples could meet in {self._place(self._seen.meeting)} and did not"
        return f"f decides by a value what to run ({self._seen.decided})" if self._seen.decided else ""

    def _in_batch(self, traced: int) -> int:
        """The number that a traced sample has in the whole batch."""
        return int(np.ravel_multi_index(np.unravel_index(traced, self._traced.shape), self._batch.shape))

    def _sample(self, place: int, side: str) -> int:
        leaves = self._function.outputs if side == "output" else self._function.inputs
        leaf = next(leaf for leaf in leaves if leaf.start <= place < leaf.stop)
        return (place - leaf.start) // self._batch.event(leaf).numel()

    def _interaction(self, args: Args, reader: int, other: int) -> InteractionError:
        """The error that names two samples and what mixes them; where a few did not show it, all are traced."""
        if self._seen.meeting is None:
            self._traced = self._batch
            self._trace(args)
        met = self._seen.meeting
        names = self._batch.names(reader), self._batch.names(other)
        place = "an op that could not be traced" if met is None else self._place(met)
        norms = [m for m in modules_of(self._function.f) if isinstance(m, _BatchNorm) and m.training]
        return InteractionError(
            f"samples {names[0]} and {names[1]} of the batch interact: the output of the first depends on the second",
            expected="each sample's output computed from that sample (and shared arguments) alone",
            why=f"{place} mixes samples",
            instead="model.eval(), because a BatchNorm in training mode reads the whole batch"
            if norms
            else "jacobian(f, *args) for the derivatives across samples, or fewer batch_dims",
        )

    def _place(self, met: Meeting) -> str:
        return f"{met.op}, at {met.line}," if met.line else met.op

    def _assemble(self, values: torch.Tensor) -> Any:
        blocks = self._strategy.blocks(values)
        return self._function.nest(lambda y, x: blocks[y.path, x.path])


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


_REMEMBERED: Remembered[BatchPlan] = Remembered()
