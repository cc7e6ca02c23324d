"""Every way out of PyTorch makes a pattern local, with the user's line; looking on changes nothing."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import torchjac as tj


def by_numpy(x):
    return x[torch.from_numpy(np.argsort(x.detach().numpy()))]


def by_array(x):
    return x[torch.from_numpy(np.argsort(np.asarray(x.detach())))]


def by_list(x):
    return x[1:] if x.tolist()[0] > 0 else x[:-1]


def by_dlpack(x):
    return x * float(np.from_dlpack(x.detach())[0])


def by_pointer(x):
    return x * (x.data_ptr() % 2 + 1)


def by_storage(x):
    return x * bytes(x.untyped_storage())[0]


def by_copy(x):
    return x * copy.deepcopy(x.detach()).sum()


def by_index(x):
    return x[[0, 1, 2][x[0].long()] :]


def by_complex(x):
    return x * complex(x[0]).real


def by_contains(x):
    return x * (0.5 in x)


WAYS = [by_numpy, by_array, by_list, by_dlpack, by_pointer, by_storage, by_copy, by_index, by_complex]
X = torch.tensor([0.25, 0.5, 0.125], dtype=torch.float64)


@pytest.mark.parametrize("f", [*WAYS, by_contains], ids=lambda f: f.__name__)
@pytest.mark.parametrize("inside", [False, True], ids=["", "in a module"])
def test_values_that_leave_pytorch_make_a_pattern_local(f, inside):
    class Module(torch.nn.Module):
        def forward(self, x):
            return f(x * 2)

    pattern = tj.jacobian_sparsity(Module() if inside else f, X)
    assert pattern.scope == "local"
    assert any("test_watch.py" in note.line for note in pattern.notes)


@pytest.mark.parametrize("f", [by_numpy, by_list], ids=lambda f: f.__name__)
def test_also_in_hessians(f):
    assert tj.hessian_sparsity(lambda x: f(x).pow(3).sum(), X).scope == "local"


def test_values_of_constants_may_be_read():
    c = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64)

    def f(x):
        order = np.argsort(c.numpy())
        return x[order.tolist()] * c.tolist()[0] + len(x)

    assert tj.jacobian_sparsity(f, X).scope == "global"
