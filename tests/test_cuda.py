"""The main paths on device tensors, and no waiting for the device in a warm plan."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from oracles import assert_close, dense_jacobian
from torch import nn

import torchjac as tj

pytestmark = pytest.mark.cuda

MODES = pytest.mark.parametrize("mode", ["forward", "reverse", "bidirectional"])
LAYOUTS = [torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc]


def stencil(x):
    return x * x.roll(1) + x.roll(-1).sin()


def arrow(x):
    return torch.cat([x[:1] * x.sum(), x[1:] * x[0]])


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64, device="cuda")


@contextmanager
def no_waiting():
    """Inside, an operation that waits for the device is an error."""
    torch.cuda.synchronize()
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@MODES
@pytest.mark.parametrize("f", [stencil, arrow])
def test_jacobians_on_the_device_are_those_on_the_cpu(f, mode):
    x = rand(12)
    J = tj.jacobian(f, x, mode=mode)
    assert J.device == x.device
    assert_close(J.cpu(), dense_jacobian(f, (x.cpu(),)))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_layout_stays_on_the_device(layout):
    x = rand(12)
    J = tj.jacobian(stencil, x, layout=layout)
    assert (J.device, J.layout) == (x.device, layout)
    assert_close(J.to_dense().cpu(), dense_jacobian(stencil, (x.cpu(),)))


def test_a_network_dense_and_its_gradients():
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3)).to("cuda", torch.float64)
    x, weights = rand(5), list(net.parameters())
    expected = dense_jacobian(net, (x.requires_grad_(),), create_graph=True)
    J = tj.jacobian(net, x)
    assert_close(J, expected)
    for got, wanted in zip(
        torch.autograd.grad((J**2).sum(), weights[:5]),
        torch.autograd.grad((expected**2).sum(), weights[:5]),
        strict=True,
    ):
        assert_close(got, wanted, 1e-10)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_recurrent_networks_and_their_gradients(kind):
    net = kind(3, 4).to("cuda", torch.float64)
    x = rand(5, 3).requires_grad_()
    with torch.backends.cudnn.flags(enabled=False):
        expected = dense_jacobian(lambda x: net(x)[0], (x,), create_graph=True)
    J = tj.jacobian(lambda x: net(x)[0], x, ravel=True)
    assert_close(J, expected, 1e-10)
    got, wanted = (torch.autograd.grad((j**2).sum(), x)[0] for j in (J, expected))
    assert_close(got, wanted, 1e-10)


def test_dropout_on_the_device_is_one_draw():
    x = rand(60)
    for mode in ("forward", "reverse"):
        plan = tj.plan_jacobian(lambda x: nn.functional.dropout(x, 0.5), x, mode=mode, check="always")
        assert set(plan(x).diagonal().tolist()) == {0.0, 2.0}


def test_detection_on_the_device_finds_the_same_pattern():
    assert tj.jacobian_sparsity(arrow, rand(9)) == tj.jacobian_sparsity(arrow, rand(9).cpu())


@MODES
@pytest.mark.parametrize("f", [stencil, arrow])
def test_a_warm_plan_does_not_wait_for_the_device(f, mode):
    x, y = rand(50), rand(50)
    plan = tj.plan_jacobian(f, x, mode=mode)
    plan.values(x)
    with no_waiting():
        values = plan.values(y)
    dense = dense_jacobian(f, (y.cpu(),))
    assert_close(values.cpu(), dense[plan.pattern.to_dense()])


def test_a_warm_dense_plan_does_not_wait_for_the_device():
    W, x = rand(6, 5), rand(5)
    plan = tj.plan_jacobian(lambda x: (W @ x).sin(), x, sparsity=None)
    plan.values(x)
    with no_waiting():
        plan.values(x)


def test_operators_selections_and_checks_on_the_device():
    x = rand(12)
    J = dense_jacobian(stencil, (x.cpu(),))
    for A in (tj.JacobianOperator(stencil, x), tj.plan_jacobian(stencil, x).operator(x)):
        for got, expected in [
            (A @ x, J @ x.cpu()),
            (A.T @ rand(12, 2).fill_(1), J.T.sum(1)[:, None].expand(12, 2)),
            (A[2:5, torch.tensor([1, 3], device="cuda")], J[2:5, [1, 3]]),
            (A.diagonal(), J.diagonal()),
            (A.to_dense(), J),
            (A.gram().to_dense(), J.T @ J),
        ]:
            assert got.device == x.device
            assert_close(got.cpu(), expected)
        assert_close(torch.from_numpy(A.to_scipy() @ x.cpu().numpy()), J @ x.cpu())
    assert tj.check_jacobian(stencil, x, J.cuda())
    assert tj.check_jacobian(stencil, x, J.numpy())
    assert not tj.check_jacobian(stencil, x, J.T, raises=False)


def test_graphs_and_solvers_on_the_device():
    from torchjac.scipy import least_squares

    x = rand(12).requires_grad_()
    J = tj.jacobian_of(stencil(x), x)
    assert J.device == x.device
    assert_close(J.detach().cpu(), dense_jacobian(stencil, (x.detach().cpu(),)))
    found = least_squares(lambda x: x - x.roll(1) / 3 - 1, torch.zeros(12).numpy(), device="cuda")
    assert_close(torch.from_numpy(found.x), torch.full((12,), 1.5).double(), 1e-6)
