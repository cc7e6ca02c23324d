"""Plans: prepared once, right at every input, also in front of an optimiser."""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from cases import CubeTheOldWay
from oracles import assert_close, dense_jacobian
from torch import nn
from torch.utils.checkpoint import checkpoint

import torchjac as tj
from torchjac import SparsityPattern

MODES = pytest.mark.parametrize("mode", ["forward", "reverse"])


def stencil(x):
    return x * x.roll(1) + x.roll(-1).sin()


def rand(*shape, grad=False):
    return torch.rand(*shape, dtype=torch.float64, requires_grad=grad)


@MODES
def test_a_plan_is_right_where_it_was_not_made(mode):
    plan = tj.plan_jacobian(stencil, rand(9), mode=mode)
    for _ in range(3):
        x = 10 * rand(9)
        assert_close(plan(x), dense_jacobian(stencil, (x,)))


def test_attributes():
    plan = tj.plan_jacobian(stencil, rand(9), mode="forward")
    assert plan.pattern == tj.jacobian_sparsity(stencil, rand(9))
    assert plan.coloring.verify(plan.pattern)
    assert (plan.mode, plan.num_products, plan.shape) == ("forward", 3, (9, 9))
    assert repr(plan) == "JacobianPlan(9 x 9, 27 entries, 3 products, forward)"


def test_values_are_the_entries_row_by_row():
    x = rand(9)
    plan = tj.plan_jacobian(stencil, x)
    assert_close(plan.values(x), dense_jacobian(stencil, (x,))[plan.pattern.to_dense()])


@pytest.mark.parametrize(("shape", "mode"), [((3, 7), "reverse"), ((7, 3), "forward"), ((5, 5), "reverse")])
def test_auto_takes_the_fewer_products_and_reverse_when_there_are_as_many(shape, mode):
    A = rand(*shape)
    plan = tj.plan_jacobian(lambda x: (A @ x).sin(), rand(shape[1]))
    assert (plan.mode, plan.num_products) == (mode, min(shape))


def test_auto_colors_the_better_side():
    one_dense_row = tj.plan_jacobian(lambda x: torch.cat([x.sin(), x.prod()[None]]), rand(30))
    assert (one_dense_row.mode, one_dense_row.num_products) == ("reverse", 2)
    one_dense_column = tj.plan_jacobian(lambda x: x.sin() * x[0], rand(30))
    assert (one_dense_column.mode, one_dense_column.num_products) == ("forward", 2)


@pytest.mark.parametrize("given", [SparsityPattern.from_dense, lambda d: d.to_sparse_csr(), lambda d: d.numpy() > 0])
def test_a_pattern_may_be_given(given):
    x = rand(9)
    pattern = given(tj.jacobian_sparsity(stencil, x).to_dense().double())
    plan = tj.plan_jacobian(stencil, x, sparsity=pattern)
    assert plan.num_products == 3
    assert_close(plan(x), dense_jacobian(stencil, (x,)))


def test_a_larger_pattern_than_need_be_holds_zeros():
    x = rand(9)
    J = tj.jacobian(stencil, x, sparsity=SparsityPattern.full((9, 9)), layout=torch.sparse_csr)
    assert J.values().numel() == 81
    assert_close(J.to_dense(), dense_jacobian(stencil, (x,)))


def test_chunks_change_nothing():
    x = rand(9)
    plan = tj.plan_jacobian(stencil, x, sparsity=None)
    plan.prepared.strategy.sides[0].products.chunk = 2
    assert_close(plan(x), dense_jacobian(stencil, (x,)))


# ---- value and aux


@MODES
def test_the_value_comes_with_the_jacobian_it_belongs_to(mode):
    def f(x):
        return nn.functional.dropout(x, 0.5) * x

    x = rand(20)
    plan = tj.plan_jacobian(f, x, mode=mode)
    value, J = plan.value_and_jacobian(x)
    assert_close(J, torch.diag(2 * value / x))  # the same mask


def test_aux_is_returned_beside_the_jacobian():
    def f(x):
        y = x * x
        return y, {"value": y.detach(), "text": "seen"}

    x = rand(3)
    J, aux = tj.jacobian(f, x, has_aux=True)
    assert_close(J, torch.diag(2 * x))
    assert aux["text"] == "seen"
    assert_close(aux["value"], x * x)
    (y, aux), J = tj.plan_jacobian(f, x, has_aux=True).value_and_jacobian(x)
    assert_close(y, x * x)
    assert_close(J, torch.diag(2 * x))


def test_the_value_of_an_f_that_works_in_place_is_that_of_the_unchanged_input():
    def f(x):
        return x.mul_(2) * x

    x = rand(3)
    value, J = tj.plan_jacobian(f, x).value_and_jacobian(x)
    assert_close(value, 4 * x * x)
    assert_close(J, torch.diag(8 * x))


# ---- what functions do


@MODES
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_recurrent_networks(kind, mode):
    net = kind(3, 4).double()
    x = rand(5, 3)
    assert_close(tj.jacobian(lambda x: net(x)[0], x, mode=mode, ravel=True), dense_jacobian(lambda x: net(x)[0], (x,)))
    pattern = tj.jacobian_sparsity(lambda x: net(x)[0], x).to_dense()
    assert (pattern >= (dense_jacobian(lambda x: net(x)[0], (x,)) != 0)).all()


@MODES
def test_boolean_masks_and_branches_by_value(mode):
    def f(x):
        y = x.clone()
        y[x > 0.5] = (x * x.roll(1))[x > 0.5]
        return y * 2 if x.sum() > 0 else y

    x = rand(12)
    assert_close(tj.jacobian(f, x, mode=mode), dense_jacobian(f, (x,)))
    assert tj.jacobian_sparsity(f, x).scope == "local"


@pytest.mark.filterwarnings("ignore::torchjac.TorchjacWarning")
def test_checkpoints_inside_f():
    def f(x):
        return checkpoint(stencil, x, use_reentrant=False)

    x = rand(7, grad=True)
    J = tj.jacobian(f, x)
    assert_close(J.detach(), dense_jacobian(stencil, (x,)))
    got, expected = (
        torch.autograd.grad((j**2).sum(), x)[0] for j in (J, dense_jacobian(stencil, (x,), create_graph=True))
    )
    assert_close(got, expected)


@MODES
def test_dropout_draws_the_same_in_all_products_and_in_the_probe(mode):
    def f(x):
        return nn.functional.dropout(x, 0.5) * x.roll(1)

    x = rand(60)
    plan = tj.plan_jacobian(f, x, mode=mode, check="always")
    for seed in range(3):
        torch.manual_seed(seed)
        J = plan(x)
        torch.manual_seed(seed)
        assert_close(J, dense_jacobian(f, (x,)))


@MODES
def test_gradients_through_a_jacobian_with_dropout_are_checked_on_the_same_draws(mode):
    def f(x):
        return nn.functional.dropout(x, 0.5) ** 2 * x.roll(1)

    x = rand(20, grad=True)
    torch.manual_seed(1)
    got = torch.autograd.grad((tj.plan_jacobian(f, x, mode=mode)(x) ** 2).sum(), x)[0]
    torch.manual_seed(1)
    expected = torch.autograd.grad((dense_jacobian(f, (x,), create_graph=True) ** 2).sum(), x)[0]
    assert_close(got, expected)


def test_planning_leaves_the_callers_random_state_alone():
    x, before = rand(5), torch.get_rng_state()
    for options in ({}, {"sparsity": None}):
        tj.plan_jacobian(nn.Dropout(), x, **options)
    assert torch.equal(torch.get_rng_state(), before)


@MODES
def test_writing_into_the_input_leaves_the_callers_tensor_alone(mode):
    def f(x):
        x[0] = x[1] * 2
        x *= 3
        return x * x

    x = rand(4)
    before, plan = x.clone(), tj.plan_jacobian(f, x, mode=mode)
    for _ in range(2):
        assert_close(plan(x), dense_jacobian(f, (before,)))
    leaf = before.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(plan(leaf).sum(), leaf)
    assert_close(gradient, torch.autograd.grad(dense_jacobian(f, (leaf,), create_graph=True).sum(), leaf)[0])
    assert torch.equal(x, before)
    assert torch.equal(leaf.detach(), before)


def test_flags_and_index_tensors_among_the_arguments():
    def f(x, k, square, index, name):
        y = x.roll(k) * x[index]
        return y**2 if square and name == "yes" else y

    x, index = rand(6), torch.tensor([3, 0, 1, 5, 2, 4])
    for square in (True, False):
        plan = tj.plan_jacobian(f, x, 2, square, index, "yes")
        assert_close(plan(x, 2, square, index, "yes"), dense_jacobian(f, (x, 2, square, index, "yes")))


@pytest.mark.parametrize("number", [1, 2])
def test_other_flags_or_indices_than_last_time_are_checked_again(number):
    def f(x, k, index):
        return x.roll(k) * x[index]

    x, index = rand(9), torch.arange(9)
    plan = tj.plan_jacobian(f, x, 1, index)
    plan(x, 1, index)
    other = (x, 3, index) if number == 1 else (x, 1, index.flip(0))
    with pytest.raises(tj.StalePatternError):
        plan(*other)
    index[:3] = torch.tensor([5, 6, 7])  # in place
    with pytest.raises(tj.StalePatternError):
        plan(x, 1, index)


# ---- gradients


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_parameters_that_f_closes_over_get_gradients(mode):
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x, parameters = rand(4, 3), list(net.parameters())
    got = torch.autograd.grad((tj.jacobian(net, x, mode=mode) ** 2).sum(), parameters[:3])
    J = torch.func.jacrev(lambda x: net(x))(x)
    for a, b in zip(got, torch.autograd.grad((J**2).sum(), parameters[:3]), strict=True):
        assert_close(a, b)
    with torch.no_grad():
        assert not tj.jacobian(net, x, mode=mode).requires_grad


LAYER_NORM = nn.LayerNorm(4).double()
WRONG_FORWARD_GRADIENTS = {
    "LayerNorm": (lambda x: torch.cat([LAYER_NORM(x), x * x, x.sin(), x, x]), (2, 4)),
    "solve": (lambda x: torch.cat([torch.linalg.solve(x, torch.eye(3).to(x) + 1), x, x, x, x, x, x]), (3, 3)),
}


@pytest.mark.parametrize("name", WRONG_FORWARD_GRADIENTS)
def test_gradients_that_forward_mode_gets_wrong_come_from_reverse_mode_or_are_refused(name):
    f, shape = WRONG_FORWARD_GRADIENTS[name]
    x = (rand(*shape) + torch.eye(*shape)).requires_grad_()
    reverse = dense_jacobian(f, (x,), create_graph=True)
    expected = torch.autograd.grad((reverse**2).sum(), x)[0]
    forward = torch.func.jacfwd(f)(x)
    wrong = not forward.requires_grad or not torch.allclose(torch.autograd.grad((forward**2).sum(), x)[0], expected)
    assert wrong or name != "LayerNorm"  # newer versions of PyTorch have mended the others
    plan = tj.plan_jacobian(f, x)
    assert plan.mode == "forward"
    said = pytest.warns(tj.TorchjacWarning, match="reverse mode from now on: gradients through forward mode are wrong")
    with said if wrong else nullcontext():
        J = plan(x).reshape(reverse.shape)
    assert plan.mode == ("reverse" if wrong else "forward")
    assert_close(torch.autograd.grad((J**2).sum(), x)[0], expected, 1e-10)
    if not wrong:
        return
    with pytest.raises(tj.DerivativeMismatchError, match=r"mode='auto' or mode='reverse', or torch.no_grad"):
        tj.jacobian(f, x, mode="forward")
    with torch.no_grad():
        assert_close(tj.jacobian(f, x, mode="forward").reshape(reverse.shape), reverse.detach(), 1e-10)


def test_gradients_of_parameters_alone_are_checked_too():
    norm = nn.LayerNorm(4).double()
    nn.init.uniform_(norm.weight)
    scale = torch.ones(4, dtype=torch.float64, requires_grad=True)

    def f(x):
        return torch.cat([norm(x * scale), x, x, x, x])

    x = rand(2, 4)
    with pytest.warns(tj.TorchjacWarning, match="reverse mode from now on"):
        J = tj.plan_jacobian(f, x)(x)
    got = torch.autograd.grad((J**2).sum(), scale)[0]
    expected = torch.autograd.grad((torch.func.jacrev(f)(x) ** 2).sum(), scale)[0]
    assert_close(got, expected, 1e-10)


def test_inputs_that_are_results_themselves_pass_gradients_on():
    start = rand(5, grad=True)
    for mode in ("forward", "reverse"):
        x = start.exp()
        got = torch.autograd.grad((tj.jacobian(stencil, x, mode=mode) ** 2).sum(), start)[0]
        expected = torch.autograd.grad((dense_jacobian(stencil, (start.exp(),), create_graph=True) ** 2).sum(), start)[
            0
        ]
        assert_close(got, expected)


def test_a_plan_first_called_without_grad_mode_gives_gradients_later():
    x = rand(5, grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.TorchjacWarning)
        plan = tj.plan_jacobian(lambda x: CubeTheOldWay.apply(x) * x.roll(1), x)
        with torch.no_grad():
            plan(x)
        assert torch.autograd.gradcheck(plan, x)


def test_newtons_method_with_a_plan_converges():
    def f(x):
        return x**3 + x.roll(1) - 1

    x = torch.ones(40, dtype=torch.float64)
    plan = tj.plan_jacobian(f, x)
    for _ in range(20):
        x = x - torch.linalg.solve(plan(x), f(x))
    assert f(x).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_precisions(dtype):
    x = torch.rand(8).to(dtype)
    J = tj.jacobian(stencil, x)
    assert J.dtype is dtype
    assert_close(J.double(), dense_jacobian(stencil, (x.double(),)), 20 * torch.finfo(dtype).eps)


def test_values_do_not_depend_on_the_order_of_the_pattern_given():
    x, order = rand(9), np.random.default_rng(0).permutation(27)
    pattern = tj.jacobian_sparsity(stencil, x)
    shuffled = SparsityPattern.from_coo(pattern.rows[order], pattern.indices[order], (9, 9))
    assert torch.equal(
        tj.plan_jacobian(stencil, x, sparsity=shuffled).values(x), tj.plan_jacobian(stencil, x).values(x)
    )


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_in_inference_mode_derivatives_are_not_silently_zero(mode):
    def f(x):
        x[0] = x[1] * 2
        return x * x.roll(1)

    x = rand(6)
    expected = dense_jacobian(f, (x,))
    with torch.inference_mode():
        inside = x.clone()
        for given in (x, inside):
            plan = tj.plan_jacobian(f, given, mode=mode)
            assert_close(plan(given), expected)
            plan.check(given)
            assert tj.jacobian_sparsity(f, given) == plan.pattern
    assert_close(tj.jacobian(f, inside, mode=mode), expected)
    assert torch.equal(inside, x)


@pytest.mark.filterwarnings("ignore::torchjac.TorchjacWarning")
def test_a_refused_way_does_not_use_up_random_numbers():
    def f(x):
        return checkpoint(torch.sin, nn.functional.dropout(x, 0.5), use_reentrant=False) * x.roll(1)

    x = rand(30)
    plan = tj.plan_jacobian(f, x, mode="reverse")
    torch.manual_seed(7)
    J = plan(x)
    torch.manual_seed(7)
    assert_close(J, dense_jacobian(f, (x,)))


def test_seeds_that_a_backward_writes_into_are_made_again():
    class Halved(torch.autograd.Function):
        generate_vmap_rule = False

        @staticmethod
        def forward(ctx, x):
            return x / 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient.div_(2)

    x = rand(6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.TorchjacWarning)
        plan = tj.plan_jacobian(Halved.apply, x, mode="reverse", check=False)
        for _ in range(3):
            assert_close(plan(x), torch.eye(6) / 2)


def test_tensors_alone_are_told_from_tensors_in_a_tree():
    x = rand(3)
    plan = tj.plan_jacobian(lambda x: x[0] if isinstance(x, tuple) else x, (x,))
    plan((x,))
    for wrong in ((x,), (x, x), ((x, x),), ([x],)):
        with pytest.raises(tj.SignatureError):
            plan(*wrong)


def test_a_local_pattern_is_checked_in_every_call_and_found_anew_where_f_reads_other_inputs():
    def f(x):  # each reads its nearest neighbour, which NumPy finds
        places = x.detach().numpy()
        distance = abs(places[:, None] - places) + 9 * np.eye(len(places))
        return (x - x[torch.from_numpy(distance.argmin(1))]) ** 2

    x, other = torch.rand(2, 9, dtype=torch.float64)
    plan = tj.plan_jacobian(f, x, layout=torch.sparse_csr)
    assert plan.pattern.scope == "local"
    assert_close(plan(x).to_dense(), dense_jacobian(f, (x,)))
    with pytest.warns(tj.TorchjacWarning, match="found anew"):
        assert_close(plan(other).to_dense(), dense_jacobian(f, (other,)))
    assert_close(plan.matrix(x).to_dense(), dense_jacobian(f, (x,)))
    with pytest.raises(tj.StalePatternError):
        tj.plan_jacobian(f, x, check="always")(other)
