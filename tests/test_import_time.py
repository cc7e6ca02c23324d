"""``import torchjac`` stays light, and its names load nothing heavy."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ["numba", "scipy.sparse.linalg", "matplotlib", "torch._dynamo", "torch._inductor", "rich", "typer", "pandas"]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_it_loads_nothing_beside_torch_but_its_table_of_names():
    code = "import torch, sys; before = set(sys.modules); import torchjac; print(*set(sys.modules) - before)"
    loaded = run(code).split()
    assert {name.split(".")[0] for name in loaded} == {"torchjac"}
    assert len(loaded) <= 3  # itself, the table and its package; what a name needs is loaded with the name


def test_no_name_loads_anything_heavy():
    code = "import torch, sys; before = set(sys.modules); import torchjac as tj; [getattr(tj, n) for n in dir(tj)]; "
    code += "print(*set(sys.modules) - before)"
    assert not set(HEAVY) & set(run(code).split())


def test_dense_jacobians_and_patterns_need_no_numba():
    code = "import torch, sys, torchjac as tj; tj.jacobian_sparsity(torch.sin, torch.rand(3)); "
    code += "tj.jacobian(torch.sin, torch.rand(3), sparsity=None); print('numba' in sys.modules)"
    assert run(code).strip() == "False"
