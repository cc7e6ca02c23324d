"""Plans evaluated from several threads at once: forward-mode levels of PyTorch are shared by the whole process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from oracles import dense_jacobian

import torchjac as tj

REPEATS = 60


def stencil(x):
    return x * x.roll(1) + x.roll(-1).sin()


def product(x):
    return (x.cumsum(0) * x.exp())[::2]


@pytest.mark.parametrize(
    "modes",
    [("forward", "reverse"), ("forward", "forward"), ("reverse", "reverse"), ("auto", "bidirectional")],
    ids="-".join,
)
@pytest.mark.parametrize("check", ["always", False])
def test_two_plans_in_two_threads_are_right(modes, check):
    points = [torch.rand(11, dtype=torch.float64) for _ in range(REPEATS)]
    start = Barrier(2)

    def work(f, mode):
        plan = tj.plan_jacobian(f, points[0], mode=mode, check=check)
        start.wait()
        return [plan(x) for x in points]

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(work, f, mode) for f, mode in zip((stencil, product), modes, strict=True)]
        results = [job.result() for job in jobs]
    for f, found in zip((stencil, product), results, strict=True):
        for x, J in zip(points, found, strict=True):
            torch.testing.assert_close(J, dense_jacobian(f, (x,)))


def test_one_plan_shared_by_threads_is_right():
    points = [torch.rand(11, dtype=torch.float64) for _ in range(REPEATS)]
    plan = tj.plan_jacobian(stencil, points[0], mode="forward")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(plan, points))
    for x, J in zip(points, found, strict=True):
        torch.testing.assert_close(J, dense_jacobian(stencil, (x,)))


def test_patterns_are_detected_in_threads_while_others_are_evaluated():
    x = torch.rand(11, dtype=torch.float64)
    plan, expected = tj.plan_jacobian(stencil, x, mode="forward"), tj.jacobian_sparsity(stencil, x)
    with ThreadPoolExecutor(4) as pool:
        patterns = [pool.submit(tj.jacobian_sparsity, stencil, x) for _ in range(REPEATS)]
        values = [pool.submit(plan, x) for _ in range(REPEATS)]
        assert all(job.result() == expected for job in patterns)
        assert all(torch.equal(job.result(), values[0].result()) for job in values)


def test_gradients_in_threads_are_right():
    points = [torch.rand(7, dtype=torch.float64, requires_grad=True) for _ in range(REPEATS)]

    def gradient(x):
        return torch.autograd.grad((tj.jacobian(product, x) ** 2).sum(), x)[0]

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(gradient, points))
    for x, g in zip(points, found, strict=True):
        J = dense_jacobian(product, (x,), create_graph=True)
        torch.testing.assert_close(g, torch.autograd.grad((J**2).sum(), x)[0])
