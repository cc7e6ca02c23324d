"""The Jacobian of every differentiable op in PyTorch's operator database, against one plain autograd.grad an output.

None may be silently wrong. REFUSED lists the ops that torchjac refuses, ORACLE_IS_WRONG those whose plain gradient is
not the derivative; an op that joins or leaves either list fails its test.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from opinfo import Case, cases, entries, full_name
from oracles import dense_jacobian, joined

import torchjac as tj

LISTED_FOR = "2.13"  # the version of torch whose database the lists describe
SAMPLES = 2
TOLERANCE = 1e-7  # of the largest entry

REFUSED: dict[str, str] = {}

ORACLE_IS_WRONG = {
    "native_group_norm": "autograd.grad of mean or rstd alone is zero (its backward returns early without a cotangent "
    "of the first output); the Jacobian of torchjac is that of finite differences",
}


def in_reals(f: Callable[..., tuple[torch.Tensor, ...]]) -> Callable[..., tuple[torch.Tensor, ...]]:
    """What the error for complex outputs tells to write: each number as a pair of real ones."""
    return lambda *x: tuple(torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in f(*x))


def finite_differences(f: Callable[..., tuple[torch.Tensor, ...]], leaves: tuple[torch.Tensor, ...]) -> torch.Tensor:
    def flat(x: torch.Tensor) -> torch.Tensor:
        parts = [part.reshape(t.shape) for part, t in zip(x.split([t.numel() for t in leaves]), leaves, strict=True)]
        return torch.cat([out.reshape(-1) for out in f(*parts)])

    x = torch.cat([t.reshape(-1) for t in leaves])
    steps = 1e-3 * torch.eye(x.numel(), dtype=x.dtype)
    weights = {1: 45 / 60, 2: -9 / 60, 3: 1 / 60}
    columns = [sum(w * (flat(x + k * h) - flat(x - k * h)) for k, w in weights.items()) / 1e-3 for h in steps]
    return torch.stack(columns, 1)


def outcome(case: Case, ravel: bool) -> str:
    """``right``, ``refused``, or what is wrong."""
    f, argnums = in_reals(case.f), tuple(range(len(case.leaves)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if case.name in ORACLE_IS_WRONG:
            expected = finite_differences(f, case.leaves)
        else:
            expected = dense_jacobian(f, case.leaves, argnums)
        try:
            plan = tj.plan_jacobian(f, *case.leaves, argnums=argnums, ravel=ravel)
            J = plan(*case.leaves)
        except tj.TorchjacError:
            return "refused"
    got = J if ravel else joined(J, f(*case.leaves), case.leaves)
    # Plain autograd multiplies a zero cotangent by an infinity: NaN at entries that do not exist.
    nowhere = expected.isnan() & ~plan.pattern.to_dense()
    return difference(got, expected.masked_fill(nowhere, 0))


def difference(got: torch.Tensor, expected: torch.Tensor) -> str:
    if got.shape != expected.shape:
        return f"shape {tuple(got.shape)} instead of {tuple(expected.shape)}"
    scale = expected.where(expected.isfinite(), 0).abs().max() if expected.numel() else 0
    close = torch.isclose(got.double(), expected.double(), rtol=0, atol=float(TOLERANCE * scale), equal_nan=True)
    if close.all():
        return "right"
    i, j = (~close).nonzero()[0].tolist()
    return f"{int((~close).sum())} of {close.numel()} entries, J[{i}, {j}] is {got[i, j]} instead of {expected[i, j]}"


@pytest.mark.parametrize("op", entries(), ids=full_name)
def test_the_jacobian_of_every_op_is_right_or_refused(op: Any) -> None:
    for case in cases(op, samples=SAMPLES):
        found = {outcome(case, ravel) for ravel in (False, True)}
        assert found <= {"right", "refused"}
        if torch.__version__.startswith(LISTED_FOR):
            assert found == {"refused" if case.name in REFUSED else "right"}


@pytest.mark.skipif(not torch.__version__.startswith(LISTED_FOR), reason="newer versions of PyTorch have mended some")
@pytest.mark.parametrize("name", ORACLE_IS_WRONG)
def test_the_oracle_is_still_wrong_where_listed(name: str) -> None:
    case = next(cases(next(op for op in entries() if full_name(op) == name)))
    plain = dense_jacobian(case.f, case.leaves, tuple(range(len(case.leaves))))
    assert difference(plain, finite_differences(case.f, case.leaves)) != "right"


def test_at_most_one_percent_of_the_ops_are_refused() -> None:
    tested = {full_name(op) for op in entries() if next(cases(op, samples=1), None) is not None}
    print(f"{len(tested)} ops tested, {len(REFUSED)} refused", *(f"\n  {k}: {why}" for k, why in REFUSED.items()))
    assert REFUSED.keys() <= tested
    assert len(REFUSED) <= 0.01 * len(tested)
    assert len(tested) >= 490 or not torch.__version__.startswith(LISTED_FOR)
