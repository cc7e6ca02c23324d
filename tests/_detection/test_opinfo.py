"""The pattern of every differentiable op in PyTorch's operator database, against reverse-mode Jacobians.

Sound: no numerically nonzero entry at any point is missing. Exact: the pattern is the union of what was observed.
LOOSE lists the ops whose patterns are larger than what was observed, with the reason. An op that becomes loose, or
stops being so, fails its test: the table stays true.
"""

from __future__ import annotations

import warnings
from itertools import islice, product
from typing import Any

import numpy as np
import pytest
import torch
from opinfo import LAYOUTS, Case, cases, entries, full_name, in_layout, points, reverse_pattern
from opinfo_loose import LOOSE

import torchjac as tj

LISTED_FOR = "2.13"  # the version of torch whose database LOOSE describes


def observed(case: Case, got: np.ndarray, most: int) -> np.ndarray:
    """The union of the nonzero patterns at up to ``most`` points, until there is nothing left to see."""
    union = np.zeros_like(got)
    for leaves in islice(points(case), most):
        seen = reverse_pattern(case, leaves)
        if seen is not None and seen.shape == union.shape:
            union |= seen
            if np.array_equal(union, got):
                break
    return union


def pattern_of(case: Case) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pattern = tj.jacobian_sparsity(case.f, *case.leaves, argnums=tuple(range(len(case.leaves))))
        return np.asarray(pattern.to_dense())


@pytest.mark.parametrize("op", entries(), ids=full_name)
def test_pattern_is_sound_and_exact_where_listed(op: Any) -> None:
    exact = True
    for case in cases(op):
        got = pattern_of(case)
        seen = observed(case, got, 30 if full_name(op) in LOOSE else 400)
        missing = np.argwhere(seen & ~got)
        assert missing.size == 0, f"{case.name} misses {len(missing)} entries, the first at {missing[0]}"
        exact = exact and np.array_equal(seen, got)
    if torch.__version__.startswith(LISTED_FOR):
        listed = full_name(op) not in LOOSE
        assert exact == listed, f"{full_name(op)}: {'add to' if listed else 'take out of'} LOOSE in opinfo_loose.py"


@pytest.mark.parametrize(
    ("op", "dtype"),
    [
        pytest.param(op, dtype, id=f"{full_name(op)}-{dtype}")
        for dtype in (torch.complex128, torch.float32)
        for op in entries(dtype)
    ],
)
def test_pattern_is_sound_in_other_dtypes(op: Any, dtype: torch.dtype) -> None:
    for case in cases(op, dtype, samples=1):
        got = pattern_of(case)
        for leaves in islice(points(case), 6):
            seen = reverse_pattern(case, leaves)
            assert seen is None or not (seen & ~got).any()


@pytest.mark.parametrize("op", entries(), ids=full_name)
def test_pattern_is_sound_wherever_the_inputs_lie_in_memory(op: Any) -> None:
    for case, layout in product(cases(op, samples=2), LAYOUTS):
        relaid = in_layout(case, layout)
        try:
            seen = [reverse_pattern(relaid, leaves) for leaves in islice(points(case), 2)]
        except RuntimeError:  # equal rows are a singular matrix
            continue
        if seen[0] is None:  # PyTorch refuses, for example to write into expanded memory
            continue
        got = pattern_of(relaid)
        for one in seen:
            assert one is None or one.shape != got.shape or not (one & ~got).any(), f"{relaid.name} misses entries"


def test_at_least_85_percent_of_the_ops_are_exact() -> None:
    tested = {full_name(op) for op in entries() if next(cases(op), None) is not None}
    loose = tested & LOOSE.keys()
    print(
        f"{len(tested)} ops, {len(tested) - len(loose)} exact;",
        *(f"\n  {name}: {LOOSE[name]}" for name in sorted(loose)),
    )
    assert 1 - len(loose) / len(tested) >= 0.85
    assert loose == LOOSE.keys() or not torch.__version__.startswith(LISTED_FOR)
