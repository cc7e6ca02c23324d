"""What a user writes is type-checked: right calls pass mypy --strict, wrong ones do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src"
SCRIPT = """
from pathlib import Path

import torch
from torch import Tensor
from typing import assert_type

import torchjac as tj


def f(x: Tensor) -> Tensor:
    return x[1:] * x[:-1]


def energy(x: Tensor) -> Tensor:
    return f(x).square().sum()


x = torch.rand(5)
plan = tj.plan_jacobian(f, x, layout=torch.sparse_csr, mode="reverse", memory="1GiB", check="always")
assert_type(plan, tj.JacobianPlan)
assert_type(plan.pattern, tj.SparsityPattern)
assert_type(plan.num_products, int)
assert_type(plan.values(x), Tensor)
matrix: tj.SparseMatrix = plan.matrix(x)  # with a block layout it is a tree of BlockMatrix
assert_type(matrix.gram(), tj.SparseMatrix)
assert_type(plan.explain(), str)
assert_type(plan.operator(x), tj.JacobianOperator)
plan.save(Path("plan.npz"))
hessian = tj.plan_hessian(energy, x, uplo="lower", recovery="direct")
assert_type(hessian, tj.HessianPlan)
coloring: tj.Coloring = tj.color(plan.pattern, "column", order="natural")
assert_type(tj.jacobian_sparsity(f, x), tj.SparsityPattern)
assert_type(tj.JacobianOperator(f, x).diagonal(), Tensor)
"""
WRONG = [
    'tj.plan_jacobian(f, x, mode="sideways")',
    "tj.plan_jacobian(f, x, layuot=torch.sparse_csr)",
    'tj.plan_hessian(energy, x, uplo="both")',
    'tj.color(plan.pattern, "colum")',
    "plan.number_of_products",
]


def mypy(folder: Path, text: str) -> tuple[int, str]:
    script = folder / "script.py"
    script.write_text(text)
    line = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={folder / 'cache'}", str(script)]
    environment = os.environ | {"MYPYPATH": str(SOURCE)}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_script_of_a_user_passes_and_its_mistakes_do_not(tmp_path):
    pytest.importorskip("mypy", reason="mypy is in the extra `dev`")
    code, said = mypy(tmp_path, SCRIPT)
    assert code == 0, said
    code, said = mypy(tmp_path, SCRIPT + "\n".join(WRONG) + "\n")
    assert code == 1
    first = SCRIPT.count("\n") + 1
    complained = {int(line.split(":")[1]) for line in said.splitlines() if ": error:" in line}
    assert complained == {first + i for i in range(len(WRONG))}, said


def test_the_package_says_that_it_is_typed():
    assert (SOURCE / "torchjac" / "py.typed").is_file()
