"""Bundle adjustment: the real one of libmv (440 cameras, 71 points, 16,718 observations) and a generated one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import assert_close
from torch.func import jacrev, vmap

import torchjac as tj
from torchjac.cli.demo.problems import Bundle, bundle_residuals, generated_bundle, read_bundle


@pytest.fixture(scope="module", params=["libmv", "generated"])
def bundle(request) -> Bundle:
    if request.param == "generated":
        return generated_bundle(cameras=12, points=100, observations=500)
    return read_bundle(request.getfixturevalue("data_dir") / "libmv_problem_02.bin")


def sizes(bundle: Bundle) -> tuple[int, int, int]:
    return bundle.camera_index.numel(), bundle.cameras.shape[0], bundle.points.shape[0]


def exact_columns(bundle: Bundle) -> np.ndarray:
    """(K, 9): the six numbers of the camera and the three of the point that an observation reads."""
    cameras = bundle.camera_index.numpy()[:, None] * 6 + np.arange(6)
    return np.hstack([cameras, 6 * bundle.cameras.shape[0] + bundle.point_index.numpy()[:, None] * 3 + np.arange(3)])


def local_jacobians(bundle: Bundle) -> torch.Tensor:
    """(K, 2, 9): of each observation alone, dense, by vmap(jacrev)."""
    zero, lens = torch.zeros(1, dtype=torch.int64), (bundle.focal, bundle.principal, bundle.radial)

    def one(camera, point, observed):
        return bundle_residuals(camera[None], point[None], zero, zero, observed[None], *lens)[0]

    args = (bundle.cameras[bundle.camera_index], bundle.points[bundle.point_index], bundle.observed)
    return torch.cat(vmap(jacrev(one, (0, 1)))(*args), -1)


def test_the_file_holds_what_it_says(data_dir):
    bundle = read_bundle(data_dir / "libmv_problem_02.bin")
    assert sizes(bundle) == (16_718, 440, 71)
    assert bundle.residuals(bundle.cameras, bundle.points).norm(dim=1).median() < 0.5  # pixels


def test_the_pattern_is_exact(bundle):
    pattern = tj.jacobian_sparsity(bundle.residuals, bundle.cameras, bundle.points, argnums=(0, 1))
    columns = np.repeat(np.sort(exact_columns(bundle), 1), 2, 0)
    observations, cameras, points = sizes(bundle)
    assert pattern.shape == (2 * observations, 6 * cameras + 3 * points)
    assert pattern.nnz == 18 * observations
    assert pattern.scope == "global"
    np.testing.assert_array_equal(pattern.indices.reshape(-1, 9), columns)


def test_the_jacobian_is_that_of_each_observation_alone(bundle):
    options = {"argnums": (0, 1), "ravel": True, "layout": torch.sparse_csr}
    J = tj.jacobian(bundle.residuals, bundle.cameras, bundle.points, **options)
    expected = local_jacobians(bundle)
    assert J.values().numel() == expected.numel()
    assert_close(J.values().reshape(expected.shape), expected)


def test_nine_products_are_enough_forward(bundle, products_only):
    plan = tj.plan_jacobian(bundle.residuals, bundle.cameras, bundle.points, argnums=(0, 1))
    assert (plan.mode, plan.num_products) == ("forward", 9)


def test_reverse_mode_gives_the_same():
    bundle = generated_bundle(cameras=12, points=100, observations=300)
    plan = tj.plan_jacobian(bundle.residuals, bundle.cameras, bundle.points, argnums=(0, 1), mode="reverse")
    expected = local_jacobians(bundle)
    assert_close(plan.values(bundle.cameras, bundle.points).reshape(expected.shape), expected)


def test_blocks_are_one_for_cameras_and_one_for_points(bundle):
    args, options = (bundle.cameras, bundle.points), {"argnums": (0, 1), "layout": torch.sparse_csr}
    by_camera, by_point = tj.jacobian(bundle.residuals, *args, **options)
    expected = local_jacobians(bundle)
    assert_close(by_camera.values().reshape(*expected.shape[:2], 6), expected[..., :6])
    assert_close(by_point.values().reshape(*expected.shape[:2], 3), expected[..., 6:])


def test_a_gauss_newton_step_reduces_the_residual():
    bundle = generated_bundle(cameras=6, points=40, observations=200)
    cameras, points = bundle.cameras, bundle.points + 0.03 * torch.randn_like(bundle.points)
    plan = tj.plan_jacobian(bundle.residuals, cameras, points, argnums=(0, 1), ravel=True)
    r, J = plan.value_and_jacobian(cameras, points)
    step = -torch.linalg.lstsq(J, r.reshape(-1, 1), driver="gelsd").solution[:, 0]
    moved = cameras + step[:36].reshape(6, 6), points + step[36:].reshape(40, 3)
    assert bundle.residuals(*moved).norm() < 0.2 * r.norm()
