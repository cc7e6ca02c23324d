"""Floating point arguments that are not differentiated may choose what f reads: a plan notices that they changed."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import torchjac as tj

D = torch.float64
X = torch.rand(6, dtype=D, generator=torch.Generator().manual_seed(0))
W, OTHER = (torch.rand(6, dtype=D, generator=torch.Generator().manual_seed(k)) for k in (1, 2))


def sampled(x, grid):
    grid = torch.stack([grid, torch.zeros_like(grid)], -1)[None, None]
    return F.grid_sample(x[None, None, None], grid * 2 - 1, align_corners=True).flatten()


CHOOSING = {
    "argsort": lambda x, w: x[w.argsort()],
    "mask": lambda x, w: torch.where(w > 0.5, x, x.flip(0)),
    "item": lambda x, w: x.roll(int(w[0] * 6)),
    "numpy": lambda x, w: x[torch.from_numpy(w.numpy().argsort())],
    "nearest": lambda x, w: x[torch.cdist(w[:, None], w[:, None].roll(1, 0)).argmin(1)],
    "grid": sampled,
}


@pytest.mark.parametrize("name", CHOOSING)
def test_other_floats_that_choose_are_refused_or_right(name):
    f = CHOOSING[name]
    plan = tj.plan_jacobian(f, X, W)
    torch.testing.assert_close(plan(X, W), torch.autograd.functional.jacobian(lambda x: f(x, W), X))
    try:
        J = plan(X, OTHER)
    except tj.StalePatternError:
        return
    torch.testing.assert_close(J, torch.autograd.functional.jacobian(lambda x: f(x, OTHER), X))


def test_other_floats_that_only_take_part_are_not_compared():
    plan = tj.plan_jacobian(lambda x, w: x * w.sum() + w.exp(), X, W)
    assert not plan._function.choices((X, W)).tensors
    torch.testing.assert_close(plan(X, OTHER), torch.eye(6, dtype=D) * OTHER.sum())
