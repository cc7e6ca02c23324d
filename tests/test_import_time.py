"""``import torchjac`` stays light, and its names load nothing heavy."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ["numba", "scipy.sparse.linalg", "matplotlib", "torch._dynamo", "torch._inductor", "rich", "typer", "pandas"]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_it_adds_at_most_a_fifth_of_a_second_to_import_torch():
    code = "import torch, time; t = time.process_time(); import torchjac; print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(4)) < 0.02  # every name loads its module when it is first used


def test_no_name_loads_anything_heavy():
    code = "import torch, sys; before = set(sys.modules); import torchjac as tj; [getattr(tj, n) for n in dir(tj)]; "
    code += "print(*set(sys.modules) - before)"
    assert not set(HEAVY) & set(run(code).split())


def test_dense_jacobians_and_patterns_need_no_numba():
    code = "import torch, sys, torchjac as tj; tj.jacobian_sparsity(torch.sin, torch.rand(3)); "
    code += "tj.jacobian(torch.sin, torch.rand(3), sparsity=None); print('numba' in sys.modules)"
    assert run(code).strip() == "False"
