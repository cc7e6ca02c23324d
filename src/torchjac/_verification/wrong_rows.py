"""Wrong rows: which rows of a Jacobian are wrong, and whether its pattern or a formula is to blame."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .._base.errors import DerivativeMismatchError, StalePatternError
from .._base.random_state import RandomState, random_numbers
from .._base.words import Args
from .._function.flat import FlatFunction
from .._function.leaves import place
from .._matrices.pattern import SparsityPattern
from .._products.reverse import Reverse
from .._products.rounding import close
from .entry_sums import EntrySums

_ROWS = 8  # so many wrong rows are computed alone: a missing entry spoils others of its color too


@dataclass(frozen=True)
class RowFault:
    """The worst entry of a wrong row; ``stale``: the pattern does not have it."""

    row: int
    column: int
    got: float
    expected: float
    stale: bool


def raise_for_wrong_rows(
    function: FlatFunction, args: Args, pattern: SparsityPattern, values: torch.Tensor, draws: RandomState
) -> None:
    """Find the wrong rows by J v, compute the worst alone, and raise the error that they call for.

    Nothing is raised where f has no second derivative, by which J v is computed, or where no row is wrong.
    """
    draws.replay()
    v = random_numbers(function.n, values, seed=1)
    try:
        expected = _times(function, args, v)
    except RuntimeError:
        return
    got, scale = EntrySums(pattern, values.device).by_row(values, v)
    wrong = ~close(got, expected, scale + expected.abs())
    count = int(wrong.sum())
    worst = torch.where(wrong, (got - expected).abs(), -1).argsort(descending=True)[: min(_ROWS, count)]
    formulas = []
    for i in worst.tolist():
        draws.replay()
        entry = _worst_entry(function, args, pattern, values, i)
        if entry.stale:
            raise _stale(function, entry, count)
        formulas.append(entry)
    if formulas:
        raise _mismatch(function, formulas[0])


def _times(function: FlatFunction, args: Args, v: torch.Tensor) -> torch.Tensor:
    """Return J v by the double-backward identity: the derivative of u -> J^T u along v."""
    with torch.enable_grad():
        u = torch.ones(function.m, dtype=v.dtype, device=v.device, requires_grad=True)  # 0 may be a kink
        (product,) = torch.autograd.grad(Reverse(function, args, plain=True, graph=True).one(u), u, v)
    return product


def _worst_entry(
    function: FlatFunction, args: Args, pattern: SparsityPattern, values: torch.Tensor, i: int
) -> RowFault:
    """Compare row ``i`` with one product of plain autograd."""
    unit = values.new_zeros(function.m)
    unit[i] = 1
    row = Reverse(function, args, plain=True).one(unit)
    stored = EntrySums(pattern, values.device).columns(i)
    mine = torch.zeros_like(row).index_copy_(0, stored, values[int(pattern.indptr[i]) : int(pattern.indptr[i + 1])])
    wrong_by = (mine - row).abs().nan_to_num(0, 0, 0)
    outside = wrong_by.index_fill(0, stored, 0)
    stale = bool(outside.max() > 1e-3 * wrong_by.max())  # what is missing was also added to entries of its color
    j = int((outside if stale else wrong_by).argmax())
    return RowFault(i, j, mine[j].item(), row[j].item(), stale)


def _stale(function: FlatFunction, entry: RowFault, count: int) -> StalePatternError:
    error = StalePatternError(
        f"output {place(function.outputs, entry.row)} depends on input {place(function.inputs, entry.column)} "
        f"(derivative {entry.expected:.6g}), "
        f"which the pattern does not have; {count} of {function.m} rows are wrong",
        expected="a pattern with every entry that can be nonzero",
        why="the pattern was given by hand, or traced where f took another branch (scope 'local')",
        instead="plan_jacobian(f, *args) again at these inputs, or a larger pattern in sparsity=",
    )
    error.entry = entry.row, entry.column
    return error


def _mismatch(function: FlatFunction, entry: RowFault) -> DerivativeMismatchError:
    output, other = place(function.outputs, entry.row), place(function.inputs, entry.column)
    return DerivativeMismatchError(
        f"d output {output} / d input {other} is {entry.got:.6g}",
        expected=f"{entry.expected:.6g}, from one product of torch.autograd.grad",
        why="PyTorch's formula for batched or forward-mode differentiation of an op in f is wrong, or f uses "
        "torch.no_grad(), which forward mode ignores (x.detach() holds in both modes)",
        instead="mode='reverse' (or 'forward', whichever was not used)",
    )
