"""Why a Jacobian may be wrong: each cause is tested on two products, and on the wrong rows and columns themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .._function.leaves import Leaf
from .claim import Claim, Numbers


@dataclass(frozen=True)
class Evidence:
    """What was claimed (C) and what is true (J): C v, J v, C^T u, J^T u, and some rows and columns of both.

    ``same(a, b)``: whether two vectors are equal up to rounding. Rows and columns are those that are most wrong.
    """

    claim: Claim
    outputs: Sequence[Leaf]
    inputs: Sequence[Leaf]
    u: Numbers
    v: Numbers
    got: tuple[Numbers, Numbers]
    true: tuple[Numbers, Numbers]
    rows: dict[int, tuple[Numbers, Numbers]]
    columns: dict[int, tuple[Numbers, Numbers]]
    entries: Sequence[tuple[int, int]]
    same: Callable[[Numbers, Numbers], bool]
    transposed_times: Callable[[Numbers], Numbers]


def likely_cause(seen: Evidence) -> str:
    """The first cause that explains all that was seen; empty where none does."""
    tests = (zero, multiple, transposed, ravelled, summed, permuted, missing, scaled_rows, scaled_columns)
    return next(filter(None, (test(seen) for test in tests)), "")


def zero(seen: Evidence) -> str:
    """Nothing at all."""
    if any(part.any() for part in seen.got):
        return ""
    return "every entry is 0: was the output detached, or computed under torch.no_grad()?"


def multiple(seen: Evidence) -> str:
    """One factor for all entries."""
    (got, _), (true, _) = seen.got, seen.true
    factor = float(got @ true / max(float(true @ true), np.finfo(float).tiny))
    if not np.isfinite(factor) or not all(seen.same(g, factor * t) for g, t in zip(seen.got, seen.true, strict=True)):
        return ""
    if abs(factor + 1) < 1e-6:
        return "the sign is flipped: every entry is -1 times what it should be"
    sizes = {size for leaf in (*seen.outputs, *seen.inputs) for size in (*leaf.shape, leaf.numel) if size > 1}
    for size in sorted(sizes):
        if abs(factor * size - 1) < 1e-6:
            return f"every entry is 1/{size} of what it should be: a mean over {size} elements instead of a sum?"
        if abs(factor / size - 1) < 1e-6:
            return f"every entry is {size} times what it should be: a sum over {size} elements instead of a mean?"
    return (
        f"every entry is {factor:.6g} times what it should be: a factor of the chain rule is missing, or one too many"
    )


def transposed(seen: Evidence) -> str:
    """Rows for columns, in a square matrix."""
    if seen.claim.shape[0] != seen.claim.shape[1] or not seen.same(seen.got[0], seen.transposed_times(seen.v)):
        return ""
    return "it is the transposed Jacobian: rows are outputs, columns are inputs; J.T is right"


def ravelled(seen: Evidence) -> str:
    """Elements counted in Fortran's order."""
    rows, columns = _fortran(seen.outputs), _fortran(seen.inputs)
    for name, at_rows, at_columns in (
        ("outputs", rows, None),
        ("inputs", None, columns),
        ("outputs and inputs", rows, columns),
    ):
        v = seen.v if at_columns is None else seen.v[at_columns]
        got = seen.claim.times(v)
        true = seen.true[0] if at_rows is None else seen.true[0][at_rows]
        if seen.same(got, true):
            return f"the {name} are ravelled column by column (order='F'); they count row by row, as x.reshape(-1) does"
    return ""


def summed(seen: Evidence) -> str:
    """A sum over an axis, at every place of that axis."""
    for side, got, true, leaves in (
        ("output", seen.got[0], seen.true[0], seen.outputs),
        ("input", seen.got[1], seen.true[1], seen.inputs),
    ):
        for axis in range(max(len(leaf.shape) for leaf in leaves)):
            parts = [_sum(true[leaf.start : leaf.stop].reshape(leaf.shape), axis) for leaf in leaves]
            if seen.same(got, np.concatenate(parts)):
                return f"it is summed over axis {axis} of the {side}: is that the batch? (batch elements interact)"
    return ""


def permuted(seen: Evidence) -> str:
    """The right rows, or the right columns, at wrong places."""
    for name, got, true in zip(("rows", "columns"), seen.got, seen.true, strict=True):
        order = np.argsort(true)[np.argsort(np.argsort(got))]  # got[i] is true[order[i]]
        if seen.same(np.sort(got), np.sort(true)):
            i = int(np.flatnonzero(order != np.arange(order.size))[0])
            return (
                f"the {name} are in another order: {name[:-1]} {i} of J is {name[:-1]} {int(order[i])} of the Jacobian"
            )
    return ""


def missing(seen: Evidence) -> str:
    """Entries that a sparse J has no place for."""
    if not seen.entries or any(seen.claim.stores(i, j) for i, j in seen.entries):
        return ""
    return "the wrong entries are not stored: the sparsity pattern of J is too small"


def scaled_rows(seen: Evidence) -> str:
    """Outputs that are detached, or scaled."""
    return _scaled(seen, seen.rows, "row", "output", "of what f does last, such as the output's scale, is")


def scaled_columns(seen: Evidence) -> str:
    """Inputs that are detached, or scaled."""
    return _scaled(seen, seen.columns, "column", "input", "of what f does first, such as a scaling of its input, is")


def _scaled(seen: Evidence, lines: dict[int, tuple[Numbers, Numbers]], name: str, what: str, factor: str) -> str:
    if not lines:
        return ""
    if all(not got.any() and true.any() for got, true in lines.values()):
        return f"the wrong {name}s are 0: are these {what}s detached, or missed?"
    ratios = [float(got @ true / max(float(true @ true), 1e-300)) for got, true in lines.values()]
    if not all(seen.same(got, r * true) for r, (got, true) in zip(ratios, lines.values(), strict=True)):
        return ""
    if all(abs(ratio + 1) < 1e-6 for ratio in ratios):
        return f"the sign of the wrong {name}s is flipped"
    if max(len(t) for _, t in lines.values()) < 2 or all(np.count_nonzero(t) < 2 for _, t in lines.values()):
        return ""  # of one number every other is a multiple
    listed = ", ".join(f"{ratio:.4g}" for ratio in ratios[:3])
    return f"each wrong {name} is a multiple of the right one ({listed}, ...): a factor {factor} missing"


def _fortran(leaves: Sequence[Leaf]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Which element, row by row, is at each place column by column."""
    parts = [leaf.start + np.arange(leaf.numel).reshape(leaf.shape).ravel(order="F") for leaf in leaves]
    return np.concatenate(parts)


def _sum(values: Numbers, axis: int) -> Numbers:
    if axis >= values.ndim:
        return values.reshape(-1)
    out: Numbers = np.broadcast_to(values.sum(axis, keepdims=True), values.shape).reshape(-1)
    return out
