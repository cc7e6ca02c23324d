"""Detect sparsity patterns: by rows in a forward trace, by columns in a backward one where forward mode has gaps."""

from __future__ import annotations

import numpy as np
import torch

from .._base.errors import REFUSALS
from .._base.words import Args, Scope
from .._function.flat import FlatFunction
from .._function.gradient import GradientOf
from .._matrices.notes import Note
from .._matrices.pattern import SparsityPattern
from .._tangent.delicate import delicate_among
from .._tangent.source import raising_line
from .._tangent.trace import Trace
from .follow import backward, forward
from .index_sets import IndexSets
from .provenance import Provenance
from .set_table import SetTable


def detect(function: FlatFunction, args: Args, sets: IndexSets | None = None) -> SparsityPattern:
    """Return the (m, n) pattern of f's Jacobian; f runs on copies of its inputs, which it may overwrite.

    ``sets``: empty index sets over the n inputs, which the forward trace fills.
    """
    try:
        pattern, trace = _by_rows(function, args, sets or IndexSets(function.n))
    except REFUSALS as error:  # no forward formula; f's own error is raised again by the backward trace
        note = Note("forward mode", f"traced backward instead, because {_first_sentence(error)}", raising_line(error))
        return _by_columns(function, args, note)
    less = trace.computes_less_forward()
    if less:
        reason = f"traced backward too, because {', '.join(sorted(less))} computes less forward than backward"
        pattern = pattern | _by_columns(function, args, Note("forward mode", reason))
    return pattern


def detect_hessian(gradient: GradientOf, function: FlatFunction, args: Args) -> SparsityPattern:
    """Return the (n, n) pattern of a Hessian: the pattern of the Jacobian of ``gradient``, made symmetric."""
    try:
        pattern = detect(function, args)
    except RuntimeError:
        if gradient.plain:
            raise
        gradient.plain = True  # torch.func.grad refuses f, or f raises: it will again
        pattern = detect(function, args)
    return mirrored(pattern)


def mirrored(pattern: SparsityPattern) -> SparsityPattern:
    """The smallest symmetric pattern that holds ``pattern``: itself, where it is symmetric."""
    if pattern.nnz == pattern.shape[0] * pattern.shape[1] or pattern == pattern.T:
        return pattern
    symmetric = pattern | pattern.T
    symmetric.provenance = pattern.provenance
    return symmetric


def _by_rows(function: FlatFunction, args: Args, sets: IndexSets) -> tuple[SparsityPattern, Trace]:
    rows, trace = forward(function, args, sets, torch.arange(1, function.n + 1))
    pattern = _pattern(sets.table, rows, (function.m, function.n), trace)
    pattern.provenance = Provenance(function, args, by_rows=True)
    return pattern, trace


def _by_columns(function: FlatFunction, args: Args, note: Note) -> SparsityPattern:
    sets: list[IndexSets] = []

    def make() -> IndexSets:
        sets.append(IndexSets(function.m))
        return sets[0]

    columns, trace = backward(function, args, make, lambda: torch.arange(1, function.m + 1))
    pattern = _pattern(sets[0].table, columns, (function.n, function.m), trace).T
    pattern.notes = (note, *pattern.notes)
    pattern.provenance = Provenance(function, args, by_rows=False)
    return pattern


def _pattern(table: SetTable, ids: torch.Tensor, shape: tuple[int, int], trace: Trace) -> SparsityPattern:
    """Return the pattern of rows with the sets ``ids``; sets that occur are renumbered in the order of the table."""
    used = np.zeros(table.size, bool)
    used[ids.numpy()] = True
    indptr, indices = table.take(np.flatnonzero(used))
    row_sets = (np.cumsum(used) - 1)[ids.numpy()]
    scope: Scope = "local" if trace.local else "global"
    pattern = SparsityPattern(shape, row_sets, indptr, indices.copy(), scope=scope, notes=trace.notes)
    pattern.delicate = delicate_among(trace.names)
    return pattern


def _first_sentence(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text.split(". ")[0].rstrip(".")
