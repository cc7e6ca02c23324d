"""Arguments of a tensor subclass keep their class, methods and attributes where f sees them."""

from __future__ import annotations

import pytest
import torch

import torchjac as tj


class Lie(torch.Tensor):
    """As in pypose: a tensor with methods, and an attribute that its results inherit."""

    @staticmethod
    def __new__(cls, t, kind):
        return torch.Tensor.as_subclass(t, cls)

    def __init__(self, t, kind):
        self.kind = kind

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        out = super().__torch_function__(func, types, args, kwargs or {})
        kinds = [a.kind for a in args if isinstance(a, Lie) and hasattr(a, "kind")]
        if isinstance(out, Lie) and kinds:
            out.kind = kinds[0]
        return out

    def act(self, points):
        assert self.kind == "so3"
        return torch.linalg.cross(self.as_subclass(torch.Tensor), points) + points


POINTS = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
OMEGA = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def moved(w):
    return w.act(POINTS)


def by_definition(w):
    return torch.linalg.cross(w, POINTS) + POINTS


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse", "accumulate"])
@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_csr])
def test_jacobian_by_a_subclass(mode, layout):
    J = tj.jacobian(moved, Lie(OMEGA, "so3"), mode=mode, layout=layout, ravel=True)
    expected = torch.autograd.functional.jacobian(by_definition, OMEGA).reshape(15, 15)
    assert type(J) is torch.Tensor
    torch.testing.assert_close(J.to_dense(), expected)


def test_pattern_plan_operator_and_batch_by_a_subclass():
    w = Lie(OMEGA, "so3")
    expected = torch.autograd.functional.jacobian(by_definition, OMEGA).reshape(15, 15)
    assert tj.jacobian_sparsity(moved, w).nnz == 30
    torch.testing.assert_close(tj.plan_jacobian(moved, w, ravel=True)(Lie(2 * OMEGA, "so3")), expected)
    torch.testing.assert_close(torch.as_tensor(tj.JacobianOperator(moved, w).to_dense()), expected)


def test_hessian_by_a_subclass():
    H = tj.hessian(lambda w: w.act(POINTS).pow(3).sum(), Lie(OMEGA, "so3"))
    expected = torch.autograd.functional.hessian(lambda w: by_definition(w).pow(3).sum(), OMEGA)
    torch.testing.assert_close(H, expected)


def test_a_subclass_that_is_returned():
    J = tj.jacobian(lambda x: Lie(x * 2, "so3"), OMEGA[0])
    torch.testing.assert_close(J, 2 * torch.eye(3, dtype=torch.float64))
