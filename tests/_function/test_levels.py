"""What f asks, sets and moves while ``torch.func`` is around it, against plain autograd; what crashed, in a process."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from oracles import dense_jacobian

import torchjac as tj

D = torch.float64

PROGRAM = """
import torch, torchjac as tj
lin = torch.nn.BatchNorm1d(2).double().eval()
x = torch.rand(4, 2, dtype=torch.float64)
def f(x):
    lin.to(device=x.device, dtype=x.dtype)
    lin.double()
    lin.weight.data = lin.weight.data.to(x.dtype)
    return lin(x).tanh()
{line}
f(x)
assert not torch._C._functorch.is_functorch_wrapped_tensor(lin.running_mean)
print(float(lin.weight.sum() + lin.running_mean.sum()))
"""

CALLS = {
    "dense": "tj.jacobian(f, x)",
    "csr": "tj.jacobian(f, x, layout=torch.sparse_csr)",
    "sparsity": "tj.jacobian_sparsity(f, x)",
    "forward": "tj.plan_jacobian(f, x, mode='forward')(x)",
    "accumulate": "tj.plan_jacobian(f, x, mode='accumulate')(x)",
    "hessian": "tj.hessian(lambda x: f(x).sum(), x)",
    "hessian sparsity": "tj.hessian_sparsity(lambda x: f(x).square().sum(), x)",
    "batch": "tj.batch_jacobian(f, x)",
    "operator": "A = tj.JacobianOperator(f, x); A @ x.reshape(-1); A.T @ x.reshape(-1)",
    "no sparsity": "tj.plan_jacobian(f, x, sparsity=None)(x)",
    "check": "tj.check_jacobian(f, (x,), torch.autograd.functional.jacobian(f, x))",
}


@pytest.mark.parametrize("call", CALLS)
def test_a_module_moved_inside_f_to_where_it_is_stays_whole(call):
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(line=CALLS[call])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 2.0


def test_a_module_converted_inside_f_is_converted():
    lin = torch.nn.Linear(2, 1)  # float32

    def f(x):
        lin.to(x)
        return lin(x).tanh()

    x = torch.rand(3, 2, dtype=D)
    pattern = tj.jacobian_sparsity(f, x)
    assert lin.weight.dtype is D
    np.testing.assert_array_equal(pattern.to_dense().numpy(), dense_jacobian(f, (x,)).numpy() != 0)


def holds(v):
    """What kornia's Se3 does with what it is given."""
    t = v * 2
    holder = torch.nn.Module()
    if t.requires_grad:
        holder.register_buffer("t", t)
    else:
        holder.t = torch.nn.Parameter(t)
    return holder.t * 3


@pytest.mark.parametrize("mode", ["forward", "reverse", "auto"])
def test_f_that_asks_whether_a_tensor_requires_grad_hears_the_same_everywhere(mode):
    x = torch.rand(4, dtype=D)
    pattern = tj.jacobian_sparsity(holds, x)
    assert pattern.nnz == 4
    assert pattern.scope == "global"
    J = tj.jacobian(holds, x, mode=mode, layout=torch.sparse_csr)
    torch.testing.assert_close(J.to_dense(), dense_jacobian(holds, (x,)))


def test_what_is_detached_or_constant_does_not_require_grad():
    seen = []

    def f(x):
        seen.append((x.requires_grad, x.detach().requires_grad, torch.ones(2).requires_grad, (x > 0).requires_grad))
        return x * 2

    tj.jacobian_sparsity(f, torch.rand(3))
    tj.jacobian(f, torch.rand(3), mode="forward")
    assert set(seen[:1] + seen[-1:]) == {(True, False, False, False)}


def test_f_that_asks_for_grad_mode_is_traced_as_reverse_mode_runs_it():
    def f(x):
        return x * 2 if torch.is_grad_enabled() else x.detach()

    with torch.no_grad():
        assert tj.jacobian_sparsity(f, torch.rand(3)).nnz == 3
