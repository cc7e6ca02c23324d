"""Jacobians by several processes are those of one; a rank that raises or ends is named."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import distributed_cases as cases
import numpy as np
import pytest
import torch
from distributed_cases import CASES, HESSIANS, compare
from ranks import World

import torchjac as tj
from torchjac.distributed.sharded import _digest


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(3, tmp_path_factory.mktemp("world"))
    yield world
    world.stop()


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_jacobians_are_those_of_one_process(world, name, size):
    results = [result for result in world.run(compare, name, size) if result]
    assert len(results) == size
    assert max(error for error, _, _ in results) < 1e-12
    starts = [rows for _, _, rows in results]
    assert [stop for _, stop in starts[:-1]] == [start for start, _ in starts[1:]]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", HESSIANS)
def test_hessians_are_those_of_one_process(world, name, size):
    results = [result for result in world.run(compare, name, size, True) if result]
    assert max(error for error, _, _ in results) < 1e-10


def test_products_are_shared_and_a_rank_may_have_none(world):
    assert [owned for _, owned, _ in world.run(compare, "row colors", 3)] == [12, 12, 12]
    assert [owned for _, owned, _ in world.run(compare, "one product", 3)] == [12, 0, 0]
    assert [owned for _, owned, _ in world.run(compare, "dense rows", 3)] == [15, 15, 5]


@pytest.mark.parametrize(("n", "m"), [(5, 7), (7, 5), (4, 2)])
def test_rows_become_a_dtensor(world, n, m):
    assert all(max(errors) < 1e-12 for errors in world.run(cases.as_dtensor, n, m))


def test_samples_are_shared(world):
    for samples, local in ((7, [3, 3, 1]), (2, [1, 1, 0])):
        results = world.run(cases.batch, samples)
        assert [rows for _, rows in results] == local
        assert max(error for error, _ in results) == 0


def test_a_rank_that_raises_is_named_by_the_others(world):
    said = world.run(cases.raises_on, 1)
    assert said[1] == "ZeroDivisionError: not on this machine"
    assert said[0].startswith("RankError: rank 1 raised ZeroDivisionError: not on this machine")
    assert said[2].startswith("RankError: rank 1 raised")


def test_what_rank_0_refuses_to_plan_ends_all(world):
    said = world.run(cases.refuses_to_plan)
    assert said[0].startswith("OutputError")
    assert all(text.startswith("RankError: rank 0 raised OutputError") for text in said[1:])


@pytest.mark.parametrize(
    ("function", "text"),
    [(cases.other_arguments, "rank 1 has other arguments"), (cases.other_plans, "rank 1 has other plan")],
)
def test_ranks_that_compute_something_else_are_refused(world, function, text):
    assert all(text in said for said in world.run(function))


def test_random_numbers_must_be_the_same(world):
    assert all("other random numbers" in said for said in world.run(cases.other_numbers, False))
    assert world.run(cases.other_numbers, True) == ["nothing was raised"] * 3


def test_a_stale_pattern_and_a_wrong_formula_are_found_by_all(world):
    assert all(said.startswith("StalePatternError") for said in world.run(cases.stale))
    assert all(said.startswith("DerivativeMismatchError") for said in world.run(cases.wrong_formula))


def test_gradients_are_refused(world):
    assert all("carry no graph" in said for said in world.run(cases.wants_a_gradient))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_weights_may_be_fully_sharded(world, mode):
    assert max(world.run(cases.fully_sharded, mode)) < 1e-12


def test_ranks_that_share_tensors_cannot_share_products(world):
    for error, said in world.run(cases.tensor_parallel):
        assert error < 1e-12
        assert "DerivativeMismatchError" in said or "InputError" in said or "RankError" in said


def test_a_rank_that_dies_is_named_by_the_others(tmp_path):
    world = World(3, tmp_path)
    try:
        start = time.monotonic()
        said = world.run(cases.dies, 2, dying=(2,))
        assert all(text.startswith("RankError: rank 2 ended") for text in said[:2])
        assert time.monotonic() - start < 60
    finally:
        world.stop()


@pytest.mark.parametrize(("n", "m"), [(60, 70), (70, 60)])
def test_a_matrix_is_written_by_several_and_taken_up_by_another_number_of_them(world, tmp_path, n, m):
    path = tmp_path / "J.npy"
    said = world.run(cases.writes, str(path), 3, 5, n, m)
    assert said[2] == "ZeroDivisionError: not now"
    assert said[0].startswith("RankError: rank 2 raised")
    done = [int(line) for line in (tmp_path / "J.npy.part.journal").read_text().splitlines()[1:]]
    assert 0 < done[-1] < min(n, m)
    assert not path.exists()
    assert world.run(cases.writes, str(path), 2, 10**6, n, m)[:2] == ["nothing was raised"] * 2
    x = cases.inputs((n,))[0]
    np.testing.assert_allclose(np.load(path), torch.func.jacrev(cases.layers(n, m))(x).numpy(), atol=1e-12)


def test_one_process_takes_up_what_a_group_with_a_rank_that_died_began(tmp_path):
    path, x = tmp_path / "J.npy", cases.inputs((60,))[0]
    world = World(2, tmp_path)
    try:
        said = world.run(cases.writes, str(path), 2, 5, 60, 50, True, dying=(1,))
    finally:
        world.stop()
    assert said[0].startswith("RankError: rank 1 ended")
    begun = (tmp_path / "J.npy.part.journal").read_text().splitlines()
    assert len(begun) > 1
    matrix = cases.layers(60, 50)

    def f(x):
        return matrix(x)

    f.__qualname__ = "writes.<locals>.f"
    tj.write_jacobian(f, x, path=path, memory="8KiB")
    np.testing.assert_allclose(np.load(path), torch.func.jacrev(cases.layers(60, 50))(x).numpy(), atol=1e-12)


def test_the_example_runs_by_torchrun():
    example = Path(__file__).resolve().parents[2] / "examples" / "distributed.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(example)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("rank ")]
    assert len(lines) == 2, done.stderr
    assert all(line.count("right") == 2 for line in lines)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
)
def test_a_digest_tells_arguments_apart(dtype):
    t = torch.tensor([[-1.0, 2.0], [3.0, 0.0]]).to(dtype)
    other = t.clone()
    other[1, 1] = 1
    assert _digest((t, {"k": 2})) == _digest((t.clone(), {"k": 2}))
    different = [(t, 2), (other, 2), (t, 3), (t[:0], 2), (t.flip(0), 2)]
    assert len(set(map(_digest, different))) == len(different)


def test_one_process_needs_no_group():
    x = torch.rand(9, dtype=torch.float64)
    plan = tj.distributed.plan_jacobian(cases.burgers, x)
    torch.testing.assert_close(tj.distributed.jacobian(plan, x), plan(x))
    rows = tj.distributed.jacobian(plan, x, gather="rows")
    with pytest.raises(tj.OptionError, match="without a process group"):
        rows.to_dtensor()
    with pytest.raises(tj.OptionError, match="gather"):
        tj.distributed.jacobian(plan, x, gather="some")


def test_aux_is_refused():
    x = torch.rand(3)
    plan = tj.plan_jacobian(lambda x: (x.sin(), 1), x, has_aux=True)
    with pytest.raises(tj.OptionError, match="has_aux"):
        tj.distributed.jacobian(plan, x)
