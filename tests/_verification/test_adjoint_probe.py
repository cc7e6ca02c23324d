"""The adjoint probe: wrong numbers are refused, right ones never."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close, dense_jacobian

import torchjac as tj
from torchjac import DerivativeMismatchError, SparsityPattern, StalePatternError
from torchjac._base.random_state import RandomState
from torchjac._function.flat import FlatFunction
from torchjac._verification.adjoint_probe import probe

MODES = pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])


def rand(*shape, grad=False):
    return torch.rand(*shape, dtype=torch.float64, requires_grad=grad)


def stencil(x):
    return x * x.roll(1) + x.roll(-1).sin()


class Wrong(torch.autograd.Function):
    """x^2 whose jvp has a factor that should not be there."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g

    @staticmethod
    def jvp(ctx, t):
        return 2.5 * ctx.saved_tensors[0] * t


class WrongInBatches(torch.autograd.Function):
    """x -> 3 x, whose backward is batched wrongly."""

    @staticmethod
    def forward(x):
        return 3 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return WrongRule.apply(g)


class WrongRule(torch.autograd.Function):
    @staticmethod
    def forward(g):
        return 3 * g

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return 3 * g

    @staticmethod
    def vmap(info, in_dims, g):
        return 4 * g, in_dims[0]


# ---- wrong patterns


@MODES
@pytest.mark.parametrize("missing", [(2, 2), (0, 8), (8, 0), (4, 3)])
def test_a_missing_entry_is_named(missing, mode):
    x = rand(9) + 1
    pattern = tj.jacobian_sparsity(stencil, x).to_dense()
    assert pattern[missing]
    pattern[missing] = False
    text = rf"output f\(...\)\[{missing[0]}\] depends on input args\[0\]\[{missing[1]}\] \(derivative .*\)"
    with pytest.raises(StalePatternError, match=text) as caught:
        tj.jacobian(stencil, x, sparsity=pattern, mode=mode)
    assert "1 of 9 rows are wrong" in str(caught.value)
    assert caught.value.expected == "a pattern with every entry that can be nonzero"


def test_the_name_of_a_missing_entry_is_that_of_the_leaf():
    def f(p):
        return {"y": p["a"].sum(0) * p["b"]}

    args = ({"a": rand(2, 3) + 1, "b": rand(3) + 1},)
    pattern = tj.jacobian_sparsity(f, *args).to_dense()
    pattern[1, 4] = False
    with pytest.raises(StalePatternError, match=r"f\(...\)\['y'\]\[1\] depends on input args\[0\]\['a'\]\[1, 1\]"):
        tj.jacobian(f, *args, sparsity=pattern)


def test_a_local_pattern_where_f_takes_the_other_branch():
    def f(x):
        return x * x.roll(1) if x.sum() > 0 else x * x.roll(2)

    x = rand(9) + 1
    plan = tj.plan_jacobian(f, x, check="always")
    assert plan.pattern.scope == "local"
    plan(x)
    with pytest.raises(StalePatternError, match="scope 'local'"):
        plan(-x)


@given(st.integers(0, 10**6))
def test_every_missing_entry_of_any_function_is_found(seed):
    generator = np.random.default_rng(seed)
    matrix = generator.standard_normal((6, 5)) * (generator.random((6, 5)) < 0.5)
    rows, columns = matrix.nonzero()
    if rows.size == 0:
        return
    gone, A = generator.integers(rows.size), torch.from_numpy(matrix)
    pattern = SparsityPattern.from_coo(np.delete(rows, gone), np.delete(columns, gone), (6, 5))
    text = rf"output f\(...\)\[{rows[gone]}\] depends on input args\[0\]\[{columns[gone]}\] "
    for mode in ("forward", "reverse"):
        with pytest.raises(StalePatternError, match=text):
            tj.jacobian(lambda x: A @ x, rand(5), sparsity=pattern, mode=mode)


# ---- wrong formulas


def test_a_wrong_jvp_is_refused_or_left_for_reverse_mode():
    def f(x):
        return torch.cat([Wrong.apply(x), x, x]) * x[0]  # forward is the cheaper

    x = rand(5) + 1
    with pytest.raises(
        DerivativeMismatchError, match=r"d output f\(...\)\[\d+\] / d input args\[0\]\[\d\] is"
    ) as caught:
        tj.jacobian(f, x, mode="forward")
    assert "from one product of torch.autograd.grad" in caught.value.expected
    plan = tj.plan_jacobian(f, x)
    assert plan.mode == "forward"
    with pytest.warns(tj.TorchjacWarning, match="products run in another way from now on"):
        J = plan(x)
    assert plan.mode == "reverse"
    assert_close(J, dense_jacobian(f, (x,)))


def test_a_wrong_batching_rule_is_left_for_products_one_at_a_time():
    def f(x):
        return WrongInBatches.apply(x) * x

    x = rand(5)
    with pytest.warns(tj.TorchjacWarning, match="products run in another way from now on"):
        J = tj.jacobian(f, x, mode="reverse")
    assert_close(J, torch.diag(6 * x))


def test_cdist_whose_batched_backward_pytorch_gets_wrong():
    y = rand(4, 3)
    with pytest.warns(tj.TorchjacWarning, match="products run in another way from now on"):
        J = tj.jacobian(lambda x: torch.cdist(x, y), rand(4, 3) + 1, ravel=True)
    torch.manual_seed(0)
    rand(4, 3)
    assert_close(J, dense_jacobian(lambda x: torch.cdist(x, y), (rand(4, 3) + 1,)))


@MODES
@pytest.mark.filterwarnings("ignore:products run in another way")
def test_a_function_that_is_another_at_every_call(mode):
    calls = itertools.count(1)
    with (
        pytest.raises(DerivativeMismatchError, match=r"random numbers|formula"),
    ):
        tj.plan_jacobian(lambda x: next(calls) * x, rand(3), mode=mode)(rand(3))


# ---- when


@pytest.mark.parametrize("check", ["first", "always", False])
def test_when_the_probe_runs(check):
    x = rand(9) + 1
    runs = []
    plan = tj.plan_jacobian(lambda x: runs.append(0) or stencil(x), x, check=check, mode="reverse")
    counts = []
    for _ in range(3):
        runs.clear()
        plan(x)
        counts.append(len(runs))
    assert counts == {"first": [2, 1, 1], "always": [2, 2, 2], False: [1, 1, 1]}[check]


def test_a_probe_that_failed_runs_again():
    x = rand(9) + 1
    plan = tj.plan_jacobian(stencil, x, sparsity=torch.eye(9))
    for _ in range(2):
        with pytest.raises(StalePatternError):
            plan(x)


def test_without_a_check_wrong_patterns_give_wrong_numbers_and_an_explicit_check_finds_them():
    x = rand(9) + 1
    plan = tj.plan_jacobian(stencil, x, sparsity=torch.eye(9), check=False)
    plan(x)
    with pytest.raises(StalePatternError):
        plan.check(x)
    tj.plan_jacobian(stencil, x).check(x)


def test_the_probe_leaves_the_random_state_and_the_grad_mode_alone():
    x = rand(9)
    plan = tj.plan_jacobian(stencil, x)
    before = torch.get_rng_state()
    plan(x)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


# ---- no false alarm


def layer_norm(x):
    return torch.nn.functional.layer_norm(x, (x.numel(),))


NOISE = {
    "softmax adds up to one": lambda x: torch.softmax(x, 0).sum() * torch.ones(3, dtype=x.dtype),
    "layer norm adds up to zero": lambda x: layer_norm(x).sum(),
    "log and exp": lambda x: x.exp().log() - x,
    "a difference of equals": lambda x: (x * x.roll(1)).cumsum(0) - (x * x.roll(1)).cumsum(0) + x[0] ** 2,
    "large and small": lambda x: torch.cat([1e12 * x, 1e-9 * x.roll(1)]) * x[0],
}


@MODES
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", NOISE)
def test_derivatives_that_are_rounding_errors_are_let_through(name, dtype, mode):
    for _ in range(5):
        refused = name.startswith("layer norm") and mode == "forward"  # its gradient is wrong, indeed
        x = torch.randn(31, dtype=dtype, requires_grad=not refused)
        assert tj.jacobian(NOISE[name], x, mode=mode).isfinite().all()


def singular(x):
    return (1 / x)[1:] * x[:-1] + (x[1:] + 0.5).sqrt()


SINGULAR = torch.tensor([2.0, 0.0, 3.0, -1.0, 5.0, 4.0, 1.0], dtype=torch.float64)


def test_nan_where_autograd_is_finite_is_refused_in_forward_mode():
    with pytest.raises(DerivativeMismatchError, match=r"is nan at input args\[0\]\[2\]"):
        tj.jacobian(singular, SINGULAR, mode="forward")


@pytest.mark.parametrize("mode", ["auto", "reverse"])
def test_infinities_and_nan_stand_where_autograd_puts_them(mode):
    J = tj.jacobian(singular, SINGULAR, mode=mode)
    expected = dense_jacobian(singular, (SINGULAR,))
    assert expected[0, 1] == -torch.inf
    assert expected[2, 3].isnan()
    assert not J[0, 1].isfinite()
    assert J[2, 3].isnan()
    away = [(i, j) for i in range(3, 6) for j in range(4, 7)]
    assert_close(torch.stack([J[a] for a in away]), torch.stack([expected[a] for a in away]))


def test_a_wrong_entry_beside_an_infinite_one_is_still_found():
    x = torch.tensor([0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    with pytest.raises(StalePatternError, match=r"f\(...\)\[2\] depends on input args\[0\]\[3\]"):
        tj.jacobian(lambda x: 1 / x + torch.tensor([0.0, 0, 1, 0]) * x[3], x, sparsity=torch.eye(4))


@given(st.integers(0, 10**6), st.floats(1e-6, 1), st.sampled_from([1e-12, 1.0, 1e12]))
def test_any_wrong_value_that_matters_is_found_at_every_scale(seed, by, scale):
    generator = torch.Generator().manual_seed(seed)
    A = scale * torch.randn(5, 4, generator=generator, dtype=torch.float64)
    function, x = FlatFunction(lambda x: A @ x, (rand(4),)), rand(4)
    function.bind((x,))(x)
    values = A.reshape(-1).clone()
    check = (function, (x,), SparsityPattern.full((5, 4)))
    probe(*check, values, RandomState(x.device), lambda args: values)
    values[seed % 20] += by * scale * 10
    with pytest.raises(DerivativeMismatchError):
        probe(*check, values, RandomState(x.device), lambda args: values)
