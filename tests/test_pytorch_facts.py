"""What PyTorch gets wrong without an error, cannot do, or says in words that do not help: what torchjac makes of it.

Everywhere one of three: right, refused with an error that says what to change, or a fallback announced once.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from hessian_cases import standardised
from oracles import assert_close, dense_jacobian
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

import torchjac as tj

EVERY_MODE = pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
QUIET = pytest.mark.filterwarnings("ignore")


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def announced(caught):
    return [str(w.message) for w in caught if issubclass(w.category, tj.TorchjacWarning)]


def right_or_refused(f, x, mode):
    """The Jacobian; None where forward mode, asked for by name, is refused for another mode."""
    if mode != "forward":
        return tj.jacobian(f, x, mode=mode, ravel=True)
    try:
        return tj.jacobian(f, x, mode=mode, ravel=True)
    except (tj.DerivativeMismatchError, tj.OptionError) as error:
        refusal = error.instead
    assert "mode='reverse'" in refusal
    return None


# ---- wrong without an error: gradients through J


class Scaled(nn.Module):
    """f(w * x), with a parameter w."""

    def __init__(self, f, shape):
        super().__init__()
        self.f, self.w = f, nn.Parameter(rand(*shape) + 0.5)

    def forward(self, x):
        return self.f(self.w * x)


class First(nn.Module):
    """The first output of a module."""

    def __init__(self, module, repeat=1):
        super().__init__()
        self.module, self.repeat = module, repeat

    def forward(self, x):
        return self.module(*[x] * self.repeat)[0]


def near_identity():
    return 3 * torch.eye(3, dtype=torch.float64) + 0.3 * rand(3, 3)


def matrix(f):
    return lambda: Scaled(f, (3, 3)), near_identity


def attention(x):
    return F.scaled_dot_product_attention(x, x, x)


SECOND_ORDER = {
    "LayerNorm": (lambda: nn.LayerNorm(4), lambda: rand(3, 4)),
    "LayerNorm over two dimensions": (lambda: nn.LayerNorm((2, 3)), lambda: rand(2, 2, 3)),
    "InstanceNorm": (lambda: nn.InstanceNorm1d(2, affine=True), lambda: rand(1, 2, 5)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), lambda: rand(1, 4, 3)),
    "BatchNorm, train": (lambda: nn.BatchNorm1d(3), lambda: rand(4, 3)),
    "BatchNorm, train, no statistics": (lambda: nn.BatchNorm1d(3, track_running_stats=False), lambda: rand(4, 3)),
    "BatchNorm, eval": (lambda: nn.BatchNorm1d(3).eval(), lambda: rand(4, 3)),
    "det": matrix(torch.linalg.det),
    "slogdet": matrix(lambda x: torch.linalg.slogdet(x)[1]),
    "logdet": matrix(torch.logdet),
    "logdet, 1 x 1": (lambda: Scaled(torch.logdet, (1, 1)), lambda: rand(1, 1) + 1),
    "solve": matrix(lambda x: torch.linalg.solve(x, torch.ones(3, dtype=x.dtype))),
    "solve, for the right-hand side": (
        lambda: Scaled(lambda x: torch.linalg.solve(near_identity() * 0 + 2 * torch.eye(3).to(x), x).sin(), (3,)),
        lambda: rand(3),
    ),
    "inverse": matrix(torch.linalg.inv),
    "cholesky": matrix(lambda x: torch.linalg.cholesky(x @ x.T)),
    "cholesky_inverse": matrix(lambda x: torch.cholesky_inverse(torch.linalg.cholesky(x @ x.T))),
    "eigh, values": matrix(lambda x: torch.linalg.eigh(x + x.T)[0]),
    "eigh, vectors": matrix(lambda x: torch.linalg.eigh(x + x.T)[1].square()),
    "householder_product": matrix(lambda x: torch.linalg.householder_product(x, torch.full((3,), 0.5).to(x))),
    "cumprod with a zero": (
        lambda: Scaled(lambda x: x.cumprod(0), (4,)),
        lambda: torch.tensor([1.0, 0, 2, 3]).double(),
    ),
    "MultiheadAttention": (
        lambda: First(nn.MultiheadAttention(4, 2, batch_first=True), repeat=3),
        lambda: rand(1, 3, 4),
    ),
    "attention": (lambda: Scaled(attention, (1, 2, 3, 4)), lambda: rand(1, 2, 3, 4)),
    "TransformerEncoderLayer": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True),
        lambda: rand(1, 3, 4),
    ),
    "GRU": (lambda: First(nn.GRU(2, 3)), lambda: rand(4, 2)),
    "LSTM": (lambda: First(nn.LSTM(2, 3)), lambda: rand(4, 2)),
}


def tall(net):
    """More outputs than inputs, so that auto begins with forward mode."""
    return lambda x: torch.cat(
        [net(x).reshape(-1), *(g(x).reshape(-1) for g in (torch.square, torch.sin, torch.cos, torch.exp))]
    )


def derivatives(J: torch.Tensor, by: list[torch.Tensor]) -> list[torch.Tensor]:
    """First and second derivatives of a scalar of J."""
    weights = torch.linspace(-1, 2, J.numel(), dtype=J.dtype).reshape(J.shape)
    first = torch.autograd.grad(
        (weights * J + J**2).sum(), by, create_graph=True, allow_unused=True, materialize_grads=True
    )
    size = sum((g**2).sum() for g in first)
    try:
        second = torch.autograd.grad(size, by, allow_unused=True, materialize_grads=True)
    except RuntimeError as error:  # what torch 2.13 gets wrong, newer ones refuse
        if "3rd+ order" not in str(error):
            raise
        second = ()
    return [*(g.detach() for g in first), *second]


@QUIET
@EVERY_MODE
@pytest.mark.parametrize("shape", [lambda net: net, tall], ids=["as it is", "tall"])
@pytest.mark.parametrize("name", SECOND_ORDER)
def test_derivatives_of_j_are_those_of_reverse_over_reverse_or_refused(name, shape, mode):
    make, point = SECOND_ORDER[name]
    net, x = make().double(), point().requires_grad_()
    f, by = shape(net), [x, *net.parameters()]
    with sdpa_kernel(SDPBackend.MATH):
        expected = dense_jacobian(f, (x,), create_graph=True)
    J = right_or_refused(f, x, mode)
    if J is None:
        return
    assert_close(J.detach(), expected.detach(), 1e-10)
    found, true = derivatives(J, by), derivatives(expected, by)
    for got, wanted in zip(found, true[: len(found)], strict=True):
        assert_close(got, wanted, 1e-10)


def test_a_graph_that_forward_mode_loses_is_found_where_only_parameters_are_trained():
    W = near_identity().requires_grad_()

    def f(x):
        return torch.cat([torch.linalg.solve(W, x).sin(), x, x])

    x = rand(3)
    lost = not torch.func.jacfwd(f)(x).requires_grad  # in torch 2.13; not in 2.15
    with pytest.warns(tj.TorchjacWarning, match="reverse mode from now on") if lost else nullcontext():
        J = tj.plan_jacobian(f, x)(x)
    expected = dense_jacobian(f, (x.requires_grad_(),), create_graph=True)
    assert_close(torch.autograd.grad((J**2).sum(), W)[0], torch.autograd.grad((expected**2).sum(), W)[0], 1e-10)


def test_without_grad_mode_forward_is_kept():
    net = nn.LayerNorm(4).double()
    plan = tj.plan_jacobian(tall(net), rand(3, 4))
    with torch.no_grad():
        plan(rand(3, 4))
    assert plan.mode == "forward"


# ---- wrong without an error: values

A = near_identity()
FORWARD_VALUES = {
    "solve, constant matrix": (lambda x: torch.linalg.solve(A, x), lambda: rand(3, 4)),
    "solve": (lambda x: torch.linalg.solve(x, A), near_identity),
    "batched solve": (
        lambda x: torch.linalg.solve(x, A),
        lambda: near_identity().expand(2, 3, 3) + 0.1 * rand(2, 3, 3),
    ),
    "det": (torch.linalg.det, near_identity),
    "batched det": (torch.linalg.det, lambda: rand(4, 2, 2)),
    "slogdet": (lambda x: torch.linalg.slogdet(x)[1], near_identity),
}


@pytest.mark.parametrize("name", FORWARD_VALUES)
def test_batched_forward_products_of_solve_and_det_are_exact(name):
    f, point = FORWARD_VALUES[name]
    x = point()
    assert_close(tj.jacobian(f, x, mode="forward", ravel=True), dense_jacobian(f, (x,)), 1e-12)


@QUIET
def test_the_wrong_jvp_of_cholesky_inverse_is_refused():
    def f(x):
        return torch.cholesky_inverse(torch.linalg.cholesky(x @ x.T))

    x = near_identity()
    with pytest.raises(tj.DerivativeMismatchError, match="mode='reverse'"):
        tj.jacobian(f, x, mode="forward")
    assert_close(tj.jacobian(f, x, ravel=True), dense_jacobian(f, (x,)))


def test_mixed_dtypes_give_the_dtype_that_holds_all():
    for into, out in ((torch.float64, torch.float32), (torch.float32, torch.float64), (torch.float16, torch.float32)):
        for mode in ("forward", "reverse"):
            x = torch.rand(4, dtype=into)
            J = tj.jacobian(lambda x, out=out: x.to(out).sin(), x, mode=mode)
            assert J.dtype is torch.promote_types(into, out)
            assert_close(J.double(), torch.diag(x.double().cos()), 1e-6 if into is not torch.float16 else 1e-3)


@EVERY_MODE
@pytest.mark.parametrize("inside", [torch.float16, torch.bfloat16, torch.float32])
def test_a_lower_precision_inside_f_is_no_mismatch(inside, mode):
    def f(x):
        return x.to(inside).sin().double() * x.roll(1)

    x = rand(6).requires_grad_()
    J = tj.jacobian(f, x, mode=mode)
    assert_close(J.detach(), dense_jacobian(f, (x,)), 10 * torch.finfo(inside).eps)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_integer_outputs_are_no_silent_zeros(dtype):
    with pytest.raises(tj.OutputError, match=r"f\(...\)\[1\] is .*\n(.|\n)*has_aux=True"):
        tj.jacobian(lambda x: (x, (x > 0).to(dtype)), rand(3))


def no_grad_inside(x):
    with torch.no_grad():
        y = x * x
    return y * x


@QUIET
def test_no_grad_inside_f_is_honoured_or_refused():
    x = rand(4)
    for mode in ("auto", "reverse"):
        assert_close(tj.jacobian(no_grad_inside, x, mode=mode), torch.diag(x * x))
    with pytest.raises(tj.DerivativeMismatchError, match=r"torch.no_grad\(\), which forward mode ignores"):
        tj.jacobian(no_grad_inside, x, mode="forward")


@EVERY_MODE
def test_detach_inside_f_is_honoured(mode):
    x = rand(4)
    assert_close(tj.jacobian(lambda x: x.detach() ** 2 * x, x, mode=mode), torch.diag(x * x))


@EVERY_MODE
def test_a_compiled_f_is_right(mode):
    x = rand(5)
    f = torch.compile(lambda x: x * x.roll(1), backend="aot_eager")
    assert_close(tj.jacobian(f, x, mode=mode), dense_jacobian(lambda x: x * x.roll(1), (x,)))


@QUIET
def test_gradients_through_the_jacobian_of_a_compiled_f():
    def raw(x):
        return x.sin() * x.roll(1)

    x = rand(5).requires_grad_()
    got = torch.autograd.grad((tj.jacobian(torch.compile(raw, backend="aot_eager"), x) ** 2).sum(), x)[0]
    assert_close(got, torch.autograd.grad((dense_jacobian(raw, (x,), create_graph=True) ** 2).sum(), x)[0])


@QUIET
def test_samples_that_interact_in_a_batch_are_seen():
    x = rand(4, 3)
    for f in (nn.BatchNorm1d(3).double(), lambda x: torch.softmax(x @ x.T, 1) @ x):
        J = tj.jacobian(f, x)
        assert J[0, :, 1, :].abs().max() > 1e-4
        assert_close(J.reshape(12, 12).detach(), dense_jacobian(f, (x,)))


# ---- not available

INDEX = torch.tensor([0, 2, 1, 0])
SPARSE = torch.tensor([[0.0, 2, 0], [1, 0, 3], [0, 0, 4]], dtype=torch.float64)
FACTORY = torch.zeros(4, dtype=torch.float64)


def checkpointed(x):
    return checkpoint(torch.sin, x, use_reentrant=False) * x.roll(1)


def into_factory(x):
    y = torch.zeros(4, dtype=x.dtype)
    y[1:] = x[:-1] * 2
    return y.mul_(x)


def in_place(x):
    x.mul_(2)
    return x * x.roll(1)


def by_numpy(x):
    return torch.from_numpy(x.detach().numpy() ** 2) * x


UNAVAILABLE: dict[str, tuple[Callable, tuple[int, ...]]] = {
    "cdist": (lambda x: torch.cdist(x, x + 1), (4, 3)),
    "attention": (attention, (1, 2, 3, 4)),
    "MHA fast path": (First(nn.MultiheadAttention(4, 2, batch_first=True).double().eval(), repeat=3), (1, 3, 4)),
    "TransformerEncoderLayer": (
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).double().eval().requires_grad_(False),
        (1, 3, 4),
    ),
    "grid_sample": (lambda x: F.grid_sample(x, torch.zeros(1, 2, 2, 2).double(), align_corners=False), (1, 1, 3, 3)),
    "embedding_bag": (lambda w: F.embedding_bag(INDEX.reshape(2, 2), w), (3, 4)),
    "scatter_reduce": (lambda x: torch.ones(3).double().scatter_reduce(0, INDEX, x, "prod"), (4,)),
    "index_reduce": (lambda x: torch.ones(3).double().index_reduce(0, INDEX, x, "prod"), (4,)),
    "lstsq": (lambda x: torch.linalg.lstsq(x, torch.ones(4, 1).double())[0], (4, 3)),
    "cholesky": (lambda x: torch.linalg.cholesky(x @ x.T + torch.eye(3)), (3, 3)),
    "GRU": (First(nn.GRU(3, 2).double()), (4, 3)),
    "LSTM": (First(nn.LSTM(3, 2).double()), (4, 3)),
    "RNN": (First(nn.RNN(3, 2).double()), (4, 3)),
    "a boolean mask": (lambda x: x[x > 0.5] * 2, (9,)),
    "an item": (lambda x: x * x.sum().item(), (4,)),
    "a branch": (lambda x: x * 2 if x.sum() > 1 else x, (4,)),
    "in place into a factory tensor": (into_factory, (4,)),
    "in place into the input": (in_place, (4,)),
    "numpy inside": (by_numpy, (4,)),
    "a checkpoint": (checkpointed, (4,)),
    "COO @ x": (lambda x: SPARSE.to_sparse() @ x * x, (3,)),
    "COO @ X": (lambda x: torch.sparse.mm(SPARSE.to_sparse(), x) * x, (3, 2)),
    "CSR @ x": (lambda x: SPARSE.to_sparse_csr() @ x * x, (3,)),
    "CSR @ X": (lambda x: SPARSE.to_sparse_csr() @ x * x, (3, 2)),
}


@QUIET
@EVERY_MODE
@pytest.mark.parametrize("name", UNAVAILABLE)
def test_what_a_transform_does_not_support_is_right_or_refused(name, mode):
    f, shape = UNAVAILABLE[name]
    x = rand(*shape)
    before = x.clone()
    J = right_or_refused(f, x, mode)
    assert torch.equal(x, before)
    if J is not None:
        assert_close(J.detach(), dense_jacobian(f, (x,)), 1e-12)


@QUIET
def test_an_lstm_in_single_precision():
    net, x = nn.LSTM(3, 4), torch.rand(5, 3)
    for options in ({}, {"mode": "reverse"}, {"sparsity": None}):
        J = tj.jacobian(lambda x: net(x)[0], x, ravel=True, **options)
        assert_close(J.detach(), dense_jacobian(lambda x: net(x)[0], (x,)))


@EVERY_MODE
def test_dropout_is_one_draw_in_all_products(mode):
    x = rand(40)
    J = tj.jacobian(lambda x: F.dropout(x, 0.5) * 3, x, mode=mode)
    assert set(J.diagonal().tolist()) == {0.0, 6.0}
    assert_close(J, torch.diag(J.diagonal()))


FALLBACKS = {
    "CSR @ X": (UNAVAILABLE["CSR @ X"][0], (3, 2), "one at a time, because PyTorch said: .* Sparse"),
}


@pytest.mark.parametrize("name", FALLBACKS)
def test_a_fallback_is_announced_once(name):
    f, shape, text = FALLBACKS[name]
    x = rand(*shape)
    plan = tj.plan_jacobian(f, x, mode="reverse")
    with pytest.warns(tj.TorchjacWarning, match=text):
        plan(x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan(x)
    assert announced(caught) == []


def test_wrong_batches_of_cdist_are_never_run():
    f, x = UNAVAILABLE["cdist"][0], rand(4, 3)
    plan = tj.plan_jacobian(f, x, mode="reverse", ravel=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)
        assert_close(plan(x), dense_jacobian(f, (x,)))


REFUSED_BY_TORCH_FUNC = {
    "a checkpoint": (checkpointed, (5,)),
    "BatchNorm": (nn.BatchNorm1d(3).double().requires_grad_(False), (4, 3)),
}


@pytest.mark.parametrize("name", REFUSED_BY_TORCH_FUNC)
def test_what_torch_func_refuses_runs_in_batches_by_plain_autograd(name):
    f, shape = REFUSED_BY_TORCH_FUNC[name]
    x = rand(*shape)
    with pytest.raises(RuntimeError):
        torch.func.jacrev(f)(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)
        assert_close(tj.jacobian(f, x, mode="reverse"), dense_jacobian(f, (x,)).reshape(*shape, *shape))


def test_forward_mode_that_fails_after_all_is_left_and_said_once():
    net, x = nn.LSTM(3, 4), torch.rand(5, 3)  # traced step by step, run by a fused kernel without forward derivative
    plan = tj.plan_jacobian(lambda x: net(x)[0].repeat(1, 4), x)
    with pytest.warns(tj.TorchjacWarning, match="reverse mode from now on: .*forward AD"):
        plan(x)
    assert plan.mode == "reverse"


@QUIET
def test_an_op_without_second_derivative_gives_j_and_says_that_no_gradient_passes():
    x = rand(4, 1, 3).requires_grad_()
    f = lambda x: F.ctc_loss(x.log_softmax(-1), torch.tensor([[1, 2]]), (4,), (2,)) * x.new_ones(2)  # noqa: E731  # one line
    with pytest.warns(tj.TorchjacWarning, match="no gradient passes .* aten::_ctc_loss_backward is not implemented"):
        J = tj.jacobian(f, x, ravel=True)
    assert_close(J.detach(), dense_jacobian(f, (x,)))


def test_attention_is_differentiated_twice_on_another_kernel():
    x = rand(1, 2, 3, 4).requires_grad_()
    plan = tj.plan_jacobian(attention, x, ravel=True)
    with pytest.warns(tj.TorchjacWarning, match="kernels that can be differentiated twice .*flash_attention"):
        plan(x)


# ---- texts that users meet


def test_the_result_is_differentiable():
    x = rand(4).requires_grad_()
    assert tj.jacobian(lambda x: x**2, x).requires_grad  # "element 0 of tensors does not require grad"


def test_inputs_that_are_not_used_have_zeros():
    x, y = rand(2), rand(3)  # "One of the differentiated Tensors appears to not have been used in the graph"
    J = tj.jacobian(lambda x, y: x[1] * x, x, y, argnums=(0, 1))
    assert_close(J[1], torch.zeros(2, 3))
    assert_close(tj.jacobian(lambda x: torch.ones(3).double(), x), torch.zeros(3, 2))
    assert_close(tj.jacobian(lambda x: (x[0], x[1] * 2), x)[0], torch.tensor([1.0, 0]))


def test_reentrant_checkpoints_are_refused_with_the_way_out():
    with pytest.raises(tj.InputError, match=r"checkpoint\(..., use_reentrant=False\)"):
        tj.jacobian(lambda x: checkpoint(torch.sin, x, use_reentrant=True), rand(3))
    with pytest.raises(tj.InputError, match=r"use_reentrant=False"):
        tj.jacobian(lambda x: checkpoint(torch.sin, x, use_reentrant=True), rand(3), sparsity=None)


def test_errors_of_f_itself_are_raised_as_they_are():
    with pytest.raises(RuntimeError, match="The size of tensor a"):
        tj.jacobian(lambda x: x + torch.ones(5), rand(3))
    plan = tj.plan_jacobian(lambda x: 1 / torch.linalg.cholesky(torch.diag(x)).diagonal(), rand(3) + 1)
    with pytest.raises(torch.linalg.LinAlgError, match="cholesky"):
        plan(-rand(3))


def test_none_among_the_outputs_is_refused_by_name():
    with pytest.raises(tj.OutputError, match=r"f\(...\)\['b'\] is NoneType(.|\n)*has_aux=True"):
        tj.jacobian(lambda x: {"a": x, "b": None}, rand(3))


# ---- arguments


def scaled(x, k, flag=False, *, power=1):
    return x[k] ** power * (2 if flag else 1)


@EVERY_MODE
def test_integers_booleans_and_none_beside_the_inputs(mode):
    x, k = rand(4), torch.tensor([2, 0, 1])
    mask = torch.tensor([True, False, True])

    def f(x, k, flag, nothing, mask):
        return scaled(x, k, flag)[mask] if nothing is None else x

    args = (x, k, True, None, mask)
    assert_close(tj.jacobian(f, *args, mode=mode), dense_jacobian(f, args))


def test_keyword_arguments_are_fixed_beforehand():
    x, k = rand(4), torch.tensor([2, 0, 1])
    with pytest.raises(tj.OptionError, match=r"no option 'power'(.|\n)*functools.partial\(f, power=...\)"):
        tj.plan_jacobian(scaled, x, k, power=2)
    plan = tj.plan_jacobian(functools.partial(scaled, power=2), x, k)
    assert_close(plan(x, k), dense_jacobian(functools.partial(scaled, power=2), (x, k)))
    with pytest.raises(tj.SignatureError, match=r"keyword argument power=(.|\n)*functools.partial\(f, power=...\)"):
        plan(x, k, power=3)


# ---- complex numbers: refused, with the line that says what is meant


def holomorphic(z):
    return z * z.roll(1)


def test_complex_inputs_are_refused_and_the_line_to_write_instead_works():
    z = torch.complex(rand(3), rand(3))
    with pytest.raises(tj.InputError, match=r"is complex\n") as caught:
        tj.jacobian(holomorphic, z)
    real = eval(caught.value.instead.split(", with z")[0], {"torch": torch, "f": holomorphic})
    J = tj.jacobian(real, torch.view_as_real(z))  # (3, 2, 3, 2)
    derivative = torch.diag(z.roll(1)) + torch.diag(z).roll(-1, 1)
    assert_close(J[:, 0, :, 0], derivative.real)  # Cauchy and Riemann
    assert_close(J[:, 1, :, 0], derivative.imag)
    assert_close(J[:, 0, :, 1], -derivative.imag)


def test_complex_outputs_are_refused_and_the_line_to_write_instead_works():
    x = rand(4)
    with pytest.raises(tj.InputError, match=r"f\(...\): complex128\[3\] .* is complex\n") as caught:
        tj.jacobian(torch.fft.rfft, x)
    real = eval(caught.value.instead.split(", or")[0], {"torch": torch, "f": torch.fft.rfft})
    J = tj.jacobian(real, x)
    assert_close(torch.view_as_complex(J.movedim(1, -1).contiguous()), torch.fft.rfft(torch.eye(4).double()).T)


@EVERY_MODE
def test_complex_numbers_inside_f_are_fine(mode):
    def f(x):
        return torch.fft.irfft(torch.fft.rfft(x) * torch.tensor([1, 2j, 3]), 4) * x

    x = rand(4)
    assert_close(tj.jacobian(f, x, mode=mode), dense_jacobian(f, (x,)))


def test_third_derivatives_of_layer_norm_are_wrong_in_every_composition():
    """Why Hessian plans run normalisations by their definition."""
    x = torch.tensor([[0.3, -1.2, 0.9, 2.0]], dtype=torch.float64, requires_grad=True)
    weights = torch.arange(16, dtype=torch.float64).reshape(1, 4, 1, 4)

    def gradients(norm):
        grad = torch.func.grad(lambda x: (norm(x) ** 3).sum())
        hessians = [torch.func.jacfwd(grad)(x), torch.func.jacrev(grad)(x)]
        return [torch.autograd.grad((H * weights).sum(), x)[0] for H in hessians]

    right = gradients(standardised)
    torch.testing.assert_close(right[0], right[1])
    for wrong in gradients(lambda x: F.layer_norm(x, (4,))):
        assert (wrong - right[0]).abs().max() > 0.01 * right[0].abs().max()
