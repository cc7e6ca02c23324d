"""Run a function once, linear in a seeded direction, and read what reached the other end.

Forward: ``jvp(f, x, v)`` with v seeded; what reaches the outputs is read. Backward: ``grad(f(x), x, u)`` with u seeded;
what reaches the inputs is read. f gets copies of its inputs; random state, buffers and backend flags stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .._base.errors import not_differentiable
from .._base.words import Args
from .._function.flat import FlatFunction
from .._tangent.chosen import Choosers
from .._tangent.isolation import normal, traced
from .._tangent.reading import Reading
from .._tangent.relations import Ids
from .._tangent.trace import Trace
from .._tangent.values import ValueTrace
from .._tangent.watch import Watch


def forward(function: FlatFunction, args: Args, reading: Reading, seeds: Ids) -> tuple[Ids, Trace]:
    """Return (m,) ids of the outputs, for (n,) ids of the inputs, and the trace."""
    trace = Trace(reading)
    primals = tuple(leaf.detach().clone() for leaf in function.leaves(args))
    tangents = tuple(normal(leaf) for leaf in primals)
    for leaf, tangent, primal in zip(function.inputs, tangents, primals, strict=True):
        trace.seed(tangent, seeds[leaf.start : leaf.stop].reshape(leaf.shape))
        trace.mark(primal)
    for t in function.others(args):
        trace.give(t)

    def push() -> Ids:
        with torch.enable_grad():  # as reverse mode has it: f may ask
            results: Sequence[torch.Tensor] = torch.func.jvp(function.bind(args, Watch(trace)), primals, tangents)[1]
        return _read(trace, results)

    ids = traced(function, trace, push)
    function.others_choose |= trace.others_choose
    return ids, trace


def backward(
    function: FlatFunction, args: Args, make_reading: Callable[[], Reading], make_seeds: Callable[[], Ids]
) -> tuple[Ids, Trace]:
    """Return (n,) ids of the inputs, for (m,) ids of the outputs, and the trace; makers are called once m is known."""
    primals = tuple(leaf.detach().clone().requires_grad_() for leaf in function.leaves(args))
    before = ValueTrace(Choosers())
    for primal in primals:
        before.mark(primal)
    for t in function.others(args):
        before.give(t)

    def run() -> tuple[torch.Tensor, ...]:
        with torch.enable_grad():
            f = function.bind(args, Watch(before))
            return f(*(primal.view_as(primal) for primal in primals))  # f may write to its inputs

    results = traced(function, before, run)
    function.others_choose |= before.others_choose
    trace = Trace(make_reading(), before)
    seeds = make_seeds()
    cotangents = [normal(t) for t in results]
    for leaf, cotangent in zip(function.outputs, cotangents, strict=True):
        trace.seed(cotangent, seeds[leaf.start : leaf.stop].reshape(leaf.shape))
    reached = [(t, u) for t, u in zip(results, cotangents, strict=True) if t.requires_grad]
    gradients: Sequence[torch.Tensor | None] = [None] * len(primals)
    if reached:
        outputs, pulls = zip(*reached, strict=True)
        gradients = traced(function, trace, lambda: _gradients(outputs, primals, pulls))
    return _read(
        trace, [p.new_zeros(p.shape) if g is None else g for g, p in zip(gradients, primals, strict=True)]
    ), trace


def _gradients(
    outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], pulls: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor | None]:
    try:
        return torch.autograd.grad(outputs, inputs, pulls, allow_unused=True)
    except RuntimeError as error:
        raise not_differentiable(error) from error


def _read(trace: Trace, results: Sequence[torch.Tensor]) -> Ids:
    return torch.cat([trace.shadow.read(t).reshape(-1) for t in results])
