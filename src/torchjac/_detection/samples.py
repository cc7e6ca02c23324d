"""Find whether samples of a batch meet in f, and in which op: by a trace in which all elements of a sample are one.

An index set is then a set of samples. f keeps samples apart if every output depends on its own sample only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from .._base.errors import REFUSALS
from .._base.words import Args
from .._function.flat import FlatFunction
from .._function.leaves import Leaf
from .._tangent.delicate import delicate_among
from .._tangent.relations import Ids
from .._tangent.trace import Trace
from .follow import backward, forward
from .index_sets import IndexSets
from .provenance import Paths

Samples = Callable[[Sequence[Leaf]], torch.Tensor]
"""The number of the sample of each element of these leaves, ravelled: (n,)."""


@dataclass(frozen=True)
class Meeting:
    """Two samples that meet: the output of ``reader`` depends on the input of ``other``, by ``op`` at ``line``."""

    reader: int
    other: int
    op: str
    line: str


@dataclass(frozen=True)
class SampleTrace:
    """The result of a trace: two samples that can meet, or None, and where f decided by a value what to run.

    ``delicate``: the ops in f that not every way of differentiating takes right at every value.
    """

    meeting: Meeting | None
    decided: str = ""
    delicate: frozenset[str] = frozenset()


def trace_samples(function: FlatFunction, args: Args, samples: Samples, count: int) -> SampleTrace:
    """Find whether any of ``count`` samples can meet in f at ``args``."""
    try:
        traced, less = _forward(function, args, samples, count)
    except REFUSALS:  # no forward formula; f's own error is raised again by the backward trace
        return _backward(function, args, samples, count)
    return _backward(function, args, samples, count) if less and traced.meeting is None else traced


def _forward(function: FlatFunction, args: Args, samples: Samples, count: int) -> tuple[SampleTrace, bool]:
    sets, inputs = SampleSets(count), samples(function.inputs)
    ids, trace = forward(function, args, sets, 1 + inputs)
    less = bool(trace.computes_less_forward())
    met = sets.first_foreign(ids, samples(function.outputs))
    if met is None:
        return SampleTrace(None, _decided(trace), delicate_among(trace.names)), less
    output, reader, other = met
    paths = Paths()
    reached, _ = forward(function, args, paths, (inputs == other).long())
    meeting = Meeting(reader, other, *sets.culprit(paths, int(reached[output])))
    return SampleTrace(meeting, delicate=delicate_among(trace.names)), less


def _backward(function: FlatFunction, args: Args, samples: Samples, count: int) -> SampleTrace:
    sets, paths = SampleSets(count), Paths()
    ids, trace = backward(function, args, lambda: sets, lambda: 1 + samples(function.outputs))
    met = sets.first_foreign(ids, samples(function.inputs))
    if met is None:
        return SampleTrace(None, _decided(trace), delicate_among(trace.names))
    place, other, reader = met
    reached, _ = backward(function, args, lambda: paths, lambda: (samples(function.outputs) == reader).long())
    meeting = Meeting(reader, other, *sets.culprit(paths, int(reached[place])))
    return SampleTrace(meeting, delicate=delicate_among(trace.names))


def _decided(trace: Trace) -> str:
    """Return where f may take another branch for other values, by the notes of a local trace; empty for others."""
    lines = [f"{note.op}, at {note.line}" if note.line else note.op for note in trace.notes]
    return (", ".join(lines) or "an op") if trace.local else ""


class SampleSets(IndexSets):
    """Sets of samples, and the ops, with their lines, that made a set of several samples from sets of one."""

    curious = True

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._mixing: set[tuple[str, str]] = set()

    def arrive(self, op: str, line: str, before: list[Ids], ids: Ids) -> Ids:
        """Remember the op if its result mixes samples, and its operands do not."""
        if self._largest(ids) > 1 and all(self._largest(b) <= 1 for b in before):
            self._mixing.add((op, line))
        return ids

    def _largest(self, ids: Ids) -> int:
        distinct = torch.unique(ids).numpy()
        return int(self.table.lengths(distinct).max(initial=0))

    def first_foreign(self, ids: Ids, own: torch.Tensor) -> tuple[int, int, int] | None:
        """Return (element, its sample, another sample in its set) for the first element that has another."""
        # a set that holds one sample alone is the one that the table began with
        for element in torch.nonzero((ids != 0) & (ids != 1 + own)).reshape(-1).tolist():
            mine = int(own[element])
            others = [int(k) for k in self.table.take(ids[element : element + 1].numpy())[1] if k != mine]
            if others:
                return element, mine, others[0]
        return None

    def culprit(self, paths: Paths, last: int) -> tuple[str, str]:
        """Return (op, line) of the step to ``last`` that mixes samples, or of all steps where each only moves them."""
        steps = paths.chain(last)
        for step in steps:
            if (step.op, step.line) in self._mixing:
                return step.op, step.line
        return ", ".join(dict.fromkeys(step.op for step in steps)), steps[-1].line if steps else ""
