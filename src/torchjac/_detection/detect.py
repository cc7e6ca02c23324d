"""Sparsity patterns by tracing what is linear in v: the tangent program, or where forward mode has gaps, the backward.

Forward: ``jvp(f, x, v)`` runs once with v seeded by {0}, ..., {n - 1}; what reaches the output are the rows.
Backward: ``grad(f(x), x, u)`` runs once with u seeded by {0}, ..., {m - 1}; what reaches the inputs are the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from .._function import FlatFunction, Leaf
from .._pattern import Note, SparsityPattern
from .._tangent.source import user_line
from .._tangent.trace import Trace
from .index_sets import IndexSets
from .set_table import Ints, SetTable

Flat = Callable[..., tuple[torch.Tensor, ...]]


def detect(function: FlatFunction, args: tuple[object, ...]) -> SparsityPattern:
    """The (m, n) pattern of f's Jacobian; f gets copies of its inputs, so what it does in place stays with it."""
    flat = function.bind(args)
    devices = [leaf.device for leaf in function.inputs if leaf.device.type == "cuda"]
    with torch.random.fork_rng(devices={d.index or 0 for d in devices}):
        state = torch.get_rng_state()
        try:
            return _forward(flat, function, function.leaves(args))
        except RuntimeError as error:  # no forward formula, or f's own error, which the backward trace raises again
            note = Note("forward mode", _first_sentence(error), user_line())
            torch.set_rng_state(state)
            return _backward(flat, function, function.leaves(args), note)


def _forward(flat: Flat, function: FlatFunction, leaves: Sequence[torch.Tensor]) -> SparsityPattern:
    sets = IndexSets(function.n)
    trace = Trace(sets)
    primals = tuple(leaf.detach().clone() for leaf in leaves)
    tangents = tuple(torch.randn_like(leaf) for leaf in primals)
    _seed(trace, sets, tangents, function.inputs)
    for primal in primals:
        trace.mark(primal)
    with trace:
        results: Sequence[torch.Tensor] = torch.func.jvp(flat, primals, tangents)[1]
    rows = _read(trace, results)
    return _pattern(sets.table, rows, (function.m, function.n), trace)


def _backward(flat: Flat, function: FlatFunction, leaves: Sequence[torch.Tensor], note: Note) -> SparsityPattern:
    primals = tuple(leaf.detach().clone().requires_grad_() for leaf in leaves)
    forward = Trace(IndexSets(0))
    for primal in primals:
        forward.mark(primal)
    with torch.enable_grad(), forward:
        results = flat(*(primal.view_as(primal) for primal in primals))  # f may work in place, leaves may not
    sets = IndexSets(function.m)
    trace = Trace(sets)
    trace.adopt(forward)
    trace.notes[note] = None
    cotangents = [torch.randn_like(t) for t in results]
    _seed(trace, sets, cotangents, function.outputs)
    reached = [(t, u) for t, u in zip(results, cotangents, strict=True) if t.requires_grad]
    gradients: Sequence[torch.Tensor | None] = [None] * len(primals)
    if reached:
        outputs, seeds = zip(*reached, strict=True)
        with trace:
            gradients = torch.autograd.grad(outputs, primals, seeds, allow_unused=True)
    columns = _read(trace, [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, primals, strict=True)])
    return _pattern(sets.table, columns, (function.n, function.m), trace).T


def _seed(trace: Trace, sets: IndexSets, tensors: Sequence[torch.Tensor], leaves: Sequence[Leaf]) -> None:
    for tensor, leaf in zip(tensors, leaves, strict=True):
        trace.seed(tensor, sets.singles(leaf.start, leaf.stop).reshape(leaf.shape))


def _read(trace: Trace, results: Sequence[torch.Tensor]) -> Ints:
    ids: Ints = torch.cat([trace.shadow.read(t).reshape(-1) for t in results]).numpy()
    return ids


def _pattern(table: SetTable, ids: Ints, shape: tuple[int, int], trace: Trace) -> SparsityPattern:
    """The sets that the rows refer to, renumbered in the order of the table."""
    used = np.zeros(table.size, bool)
    used[ids] = True
    indptr, indices = table.take(np.flatnonzero(used))
    row_sets = (np.cumsum(used) - 1)[ids]
    return SparsityPattern(
        shape, row_sets, indptr, indices.copy(), scope="local" if trace.local else "global", notes=trace.notes
    )


def _first_sentence(error: RuntimeError) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"traced backward instead, because {text.split('. ')[0].rstrip('.')}"
