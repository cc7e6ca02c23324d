"""Sampling at the points of a constant grid reads what it reads, exactly; against plain autograd."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from oracles import dense_jacobian
from torch.nn import functional as F

import torchjac as tj

D = torch.float64
PADDINGS = ("zeros", "border", "reflection")
CASES = [
    *product([(7, 9)], [2], ("bilinear", "nearest", "bicubic"), PADDINGS, (False, True)),
    *product([(2, 1), (1, 5)], [1], ("bilinear", "bicubic"), PADDINGS, (False, True)),
    *product([(3, 4, 5)], [2], ("bilinear", "nearest"), PADDINGS, (False, True)),
]


def grids(spatial: tuple[int, ...], n: int) -> list[torch.Tensor]:
    """Points inside and far outside, points exactly at pixels, and one on the border."""
    d, generator = len(spatial), torch.Generator().manual_seed(0)
    anywhere = (torch.rand(n, *[3] * d, d, dtype=D, generator=generator) * 2 - 1) * 2.5
    axes = [torch.linspace(-1, 1, size, dtype=D) for size in spatial]
    pixels = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], -1).expand(n, *spatial, d)
    return [anywhere, pixels]


@pytest.mark.parametrize(("spatial", "n", "mode", "padding", "corners"), CASES, ids=str)
def test_constant_grids_are_exact(spatial, n, mode, padding, corners):
    x = torch.rand(n, 2, *spatial, dtype=D, generator=torch.Generator().manual_seed(1))
    for grid in grids(spatial, n):

        def f(x, grid=grid):
            return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=corners)

        pattern = tj.jacobian_sparsity(f, x)
        np.testing.assert_array_equal(pattern.to_dense().numpy(), dense_jacobian(f, (x,)).numpy() != 0)
        assert pattern.scope == "global"


def test_a_grid_computed_from_x_may_point_anywhere_in_its_plane():
    def f(x):
        grid = F.affine_grid(x[0, 0, :2, :3][None], (1, 2, 4, 4), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    x = torch.rand(1, 2, 4, 4, dtype=D)
    seen = np.any([dense_jacobian(f, (torch.rand_like(x),)).numpy() != 0 for _ in range(10)], axis=0)
    assert not (seen & ~tj.jacobian_sparsity(f, x).to_dense().numpy()).any()


def test_a_warped_image_keeps_the_same_entries_in_every_channel():
    x = torch.rand(1, 3, 64, 64, dtype=torch.float32)
    theta = torch.tensor([[[0.9, 0.1, 0.0], [-0.1, 0.9, 0.05]]])
    grid = F.affine_grid(theta, [1, 3, 64, 64], align_corners=False)
    pattern = tj.jacobian_sparsity(lambda x: F.grid_sample(x, grid, align_corners=False), x)
    assert pattern.nnz <= 4 * x.numel()
