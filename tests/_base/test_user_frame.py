"""Warnings name the user's line that called, and follow the filters as others do."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import torchjac as tj
from torchjac._base.user_frame import is_users
from torchjac.cli.demo import problems


class ByNumpy(torch.autograd.Function):
    """exp, whose backward neither takes batches nor can be differentiated."""

    @staticmethod
    def forward(ctx, x):
        out = x.exp()
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, g):
        return torch.from_numpy(g.detach().numpy() * ctx.saved_tensors[0].detach().numpy())


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def running_product(x):
    return x.reshape(-1, 3).cumprod(1).reshape(-1)


def gated(x):
    return x.cumsum(0) if bool(x[0, 0] > 2) else x.sin()


def shared(x, gate):
    return x + gate * x.mean(0)


y, u = rand(4, 3), rand(4, 4)
lstm, sequence = nn.LSTM(3, 4), torch.rand(5, 3)

through_functools = functools.singledispatch(tj.plan_jacobian)

CALLS = {
    "plan_jacobian": lambda: tj.plan_jacobian(running_product, rand(12), mode="accumulate"),
    "plan_hessian": lambda: tj.plan_hessian(lambda x: running_product(x).sum(), rand(12), mode="accumulate"),
    "jacobian": lambda: tj.jacobian(lambda x: torch.cdist(x, y), rand(4, 3) + 1),
    "hessian": lambda: tj.hessian(lambda x: running_product(x).sum(), rand(6), mode="accumulate"),
    "plan": lambda: tj.plan_jacobian(lambda x: lstm(x)[0].repeat(1, 4), sequence)(sequence),
    "values": lambda: tj.plan_jacobian(lambda x: lstm(x)[0].repeat(1, 4), sequence).values(sequence),
    "operator": lambda: u @ tj.JacobianOperator(ByNumpy.apply, rand(4)),
    "batch_jacobian": lambda: tj.batch_jacobian(gated, rand(4, 2)),
    "batch_jacobian, shared": lambda: tj.batch_jacobian(shared, rand(4, 2), torch.zeros(4, 1, dtype=torch.float64)),
    "jacobian_of": lambda: tj.jacobian_of(rand(3).requires_grad_() * 2, rand(2).requires_grad_()),
    "jacobian_of, batches": lambda: tj.jacobian_of(*(lambda x: (ByNumpy.apply(x), x))(rand(4).requires_grad_())),
    "through functools": lambda: through_functools(running_product, rand(12), mode="accumulate"),
}


def first_warning(call):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", tj.TorchjacWarning)
        call()
    return said[0]


@pytest.mark.parametrize("name", CALLS)
def test_a_warning_names_the_line_that_called(name):
    call = CALLS[name]
    warning = first_warning(call)
    assert (warning.filename, warning.lineno) == (__file__, call.__code__.co_firstlineno)


def test_once_for_each_line_by_default():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", tj.TorchjacWarning)
        for _ in range(2):
            tj.plan_jacobian(running_product, torch.rand(9), mode="accumulate")
        tj.plan_jacobian(running_product, torch.rand(9), mode="accumulate")
    assert len({warning.lineno for warning in said}) == len(said) == 2


def test_a_filter_makes_it_an_error_also_by_module():
    for module in ("", re.escape(__name__)):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", category=tj.TorchjacWarning, module=module)
            with pytest.raises(tj.TorchjacWarning, match="uses colors here"):
                tj.plan_jacobian(running_product, rand(12), mode="accumulate")


def test_code_of_others_and_a_problem_of_torchjac_are_a_users():
    found = {}
    for name in ("torchjac_examples", problems.__name__, tj.plan_jacobian.__module__, "torch.functional"):
        space = {"__name__": name}
        exec(compile("import sys\nframe = sys._getframe()", "file.py", "exec"), space)
        found[name] = is_users(space["frame"])
    assert list(found.values()) == [True, True, False, False]


def test_code_without_a_file_is_a_users_where_there_is_no_other():
    lines = "import torch, torchjac as tj", "x, y = torch.ones(2, 2).requires_grad_()", "tj.jacobian_of(y, x)"
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert "<string>:3: TorchjacWarning: no element of y depends on x" in done.stderr
