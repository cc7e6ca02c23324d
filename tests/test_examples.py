"""The examples solve their problems."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from torchjac.cli.demo.problems import generated_bundle, read_bundle

FOLDER = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    return importlib.import_module


def test_the_brusselator(example):
    module = example("stiff_brusselator")
    solution = module.main(10, 0.5)
    assert solution.success
    exact = module.main(10, 0.5, method="Radau")
    np.testing.assert_allclose(solution.y[:, -1], exact.y[:, -1], atol=2e-3)


@pytest.mark.parametrize("name", ["libmv", "generated"])
def test_bundle_adjustment_finds_a_lower_cost(example, name, request):
    if name == "libmv":
        bundle = read_bundle(request.getfixturevalue("data_dir") / "libmv_problem_02.bin")
    else:
        bundle = generated_bundle(cameras=6, points=40, observations=200)
    found = example("bundle_adjustment").main(bundle)
    assert found.cost < found.given < found.before
    cameras, points = map(torch.from_numpy, found.x)
    assert bundle.residuals(cameras, points).square().sum().item() / 2 == pytest.approx(found.cost)


def test_the_minimal_surface(example):
    module = example("minimal_surface")
    found = module.main(8)
    areas = [module.area(torch.from_numpy(result.x)).item() for result in found.values()]
    assert max(areas) - min(areas) < 1e-7
    slopes = torch.func.grad(module.area)(torch.from_numpy(found["root of the gradient, sparse Newton"].x))
    assert slopes.abs().max() < 1e-9


def test_the_deformation_field_keeps_areas_where_the_loss_asks_for_it(example):
    module = example("deformation_field")
    plain, kept = module.fit(80, 150, 0.0), module.fit(80, 150, 0.3)
    assert kept.distance < 0.1
    assert kept.stretch < plain.stretch / 3
    x = module.bar(7)
    blocks = torch.func.vmap(torch.func.jacrev(kept.field))(x)
    plan = module.tj.plan_jacobian(kept.field, x)
    torch.testing.assert_close(plan.values(x).reshape(7, 2, 2), blocks)


def test_the_springs_are_found(example):
    module = example("spring_fit")
    found = module.main(120)
    assert found.stiffness == pytest.approx(module.STIFFNESS, rel=0.01)
    assert found.damping == pytest.approx(module.DAMPING, abs=0.05)
    freedom = 120 * module.WEIGHTS - 2 * module.WEIGHTS - 2  # of the film, once the law and the constants hold
    assert 2 * found.costs[-1] == pytest.approx(freedom, rel=0.15)
