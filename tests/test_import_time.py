"""``import torchjac`` stays light."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ["numba", "scipy.sparse.linalg", "matplotlib", "torch._dynamo", "torch._inductor", "rich", "typer", "pandas"]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_it_adds_at_most_a_fifth_of_a_second_to_import_torch():
    code = "import torch, time; t = time.process_time(); import torchjac; print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(4)) < 0.2


def test_it_imports_nothing_heavy():
    code = "import torch, sys; before = set(sys.modules); import torchjac; print(*set(sys.modules) - before)"
    assert not set(HEAVY) & set(run(code).split())


def test_dense_jacobians_and_patterns_need_no_numba():
    code = "import torch, sys, torchjac as tj; tj.jacobian_sparsity(torch.sin, torch.rand(3)); "
    code += "tj.jacobian(torch.sin, torch.rand(3), sparsity=None); print('numba' in sys.modules)"
    assert run(code).strip() == "False"
