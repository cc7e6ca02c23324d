"""Whether the samples of a batch meet, and which op lets them: a trace in which all elements of a sample are one.

An index set is then a set of samples. f keeps samples apart if every output has no other than its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

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
    """What sample ``reader`` returns depends on what sample ``other`` is given, through ``op`` at ``line``."""

    reader: int
    other: int
    op: str
    line: str


@dataclass(frozen=True)
class Seen:
    """What a trace saw: two samples that can meet, if any do; and where f decided by a value what to run, if it did.

    ``delicate``: ops in f that not every way of differentiating takes right at every value.
    """

    meeting: Meeting | None
    decided: str = ""
    delicate: frozenset[str] = frozenset()


def see(function: FlatFunction, args: Args, samples: Samples, count: int) -> Seen:
    """Whether any of ``count`` samples can meet in f at ``args``."""
    try:
        seen, less = _forward(function, args, samples, count)
    except RuntimeError:  # no forward formula; f's own error is raised again by the backward trace
        return _backward(function, args, samples, count)
    return _backward(function, args, samples, count) if less and seen.meeting is None else seen


def _forward(function: FlatFunction, args: Args, samples: Samples, count: int) -> tuple[Seen, bool]:
    sets, inputs = SampleSets(count), samples(function.inputs)
    ids, trace = forward(function, args, sets, 1 + inputs)
    less = bool(trace.computes_less_forward())
    met = sets.first_foreign(ids, samples(function.outputs))
    if met is None:
        return Seen(None, _decided(trace), delicate_among(trace.names)), less
    output, reader, other = met
    paths = Paths()
    reached, _ = forward(function, args, paths, (inputs == other).long())
    meeting = Meeting(reader, other, *sets.culprit(paths, int(reached[output])))
    return Seen(meeting, delicate=delicate_among(trace.names)), less


def _backward(function: FlatFunction, args: Args, samples: Samples, count: int) -> Seen:
    sets, paths = SampleSets(count), Paths()
    ids, trace = backward(function, args, lambda: sets, lambda: 1 + samples(function.outputs))
    met = sets.first_foreign(ids, samples(function.inputs))
    if met is None:
        return Seen(None, _decided(trace), delicate_among(trace.names))
    place, other, reader = met
    reached, _ = backward(function, args, lambda: paths, lambda: (samples(function.outputs) == reader).long())
    meeting = Meeting(reader, other, *sets.culprit(paths, int(reached[place])))
    return Seen(meeting, delicate=delicate_among(trace.names))


def _decided(trace: Trace) -> str:
    """Where f may have taken another branch for other values; the notes of a local trace say it."""
    lines = [f"{note.op}, at {note.line}" if note.line else note.op for note in trace.notes]
    return (", ".join(lines) or "an op") if trace.local else ""


class SampleSets(IndexSets):
    """Sets of samples that remember which ops, at which lines, made one of several from ones of one."""

    curious = True

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._mixing: set[tuple[str, str]] = set()

    def arrive(self, op: str, line: str, before: list[Ids], ids: Ids) -> Ids:
        """Remember the op if it is the first to mix what it got."""
        if self._largest(ids) > 1 and all(self._largest(b) <= 1 for b in before):
            self._mixing.add((op, line))
        return ids

    def _largest(self, ids: Ids) -> int:
        distinct = torch.unique(ids).numpy()
        return int(self.table.lengths(distinct).max(initial=0))

    def first_foreign(self, ids: Ids, own: torch.Tensor) -> tuple[int, int, int] | None:
        """(element, its sample, another sample in its set) for the first element that has another."""
        # a set that holds one sample alone is the one that the table began with
        for element in torch.nonzero((ids != 0) & (ids != 1 + own)).reshape(-1).tolist():
            mine = int(own[element])
            others = [int(k) for k in self.table.take(ids[element : element + 1].numpy())[1] if k != mine]
            if others:
                return element, mine, others[0]
        return None

    def culprit(self, paths: Paths, last: int) -> tuple[str, str]:
        """(op, line) of the step on the way to ``last`` that mixes samples, or of all where each only moves them."""
        steps = paths.chain(last)
        for step in steps:
            if (step.op, step.line) in self._mixing:
                return step.op, step.line
        return ", ".join(dict.fromkeys(step.op for step in steps)), steps[-1].line if steps else ""
