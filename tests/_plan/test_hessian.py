"""Hessians: patterns and values equal dense ones, in every mode, recovery and triangle; so do third derivatives."""

from __future__ import annotations

import functools
import re
import warnings

import numpy as np
import pytest
import torch
from cases import CubeTheOldWay, CubeWithContext
from hessian_cases import ENERGIES, Energy, hexagon, minimal_surface, rosenbrock, standardised
from oracles import assert_close, dense_jacobian
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

import torchjac as tj

each = pytest.mark.parametrize("energy", ENERGIES, ids=str)
MODES = pytest.mark.parametrize("mode", ["forward", "reverse"])
LAYOUTS = [torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc]
CUT = {"full": lambda t: t, "lower": torch.tril, "upper": torch.triu}


def rand(*shape, grad=False, dtype=torch.float64):
    return torch.rand(*shape, dtype=dtype, requires_grad=grad)


@functools.cache
def truth(energy: Energy) -> torch.Tensor:
    n = energy.x.numel()
    with sdpa_kernel(SDPBackend.MATH):  # the fused one has no forward formula
        return torch.func.hessian(energy.f)(energy.x).reshape(n, n)


def observed(energy: Energy) -> np.ndarray:
    """Where dense Hessians at many points have an entry."""
    n, found = energy.x.numel(), 0
    for _ in range(12):
        with sdpa_kernel(SDPBackend.MATH):
            dense = torch.func.hessian(energy.f)(energy.x + torch.randn_like(energy.x))
        found = found + dense.reshape(n, n).nan_to_num(1)
    return (found + truth(energy)).numpy() != 0


# ---- what the Hessian is


@each
def test_patterns_are_exact(energy):
    pattern = tj.hessian_sparsity(energy.f, energy.x)
    if energy.nnz is not None:
        assert pattern.nnz == energy.nnz
    if energy.name != "lennard-jones":  # elsewhere its particles meet
        np.testing.assert_array_equal(pattern.to_dense().numpy(), observed(energy))
    assert pattern.scope == "global"


@each
@MODES
@pytest.mark.parametrize("recovery", ["direct", "substitution"])
@pytest.mark.parametrize("uplo", CUT)
def test_values_are_those_of_the_dense_hessian(energy, mode, recovery, uplo):
    plan = tj.plan_hessian(energy.f, energy.x, mode=mode, recovery=recovery, uplo=uplo, ravel=True)
    assert_close(plan(energy.x), CUT[uplo](truth(energy)))
    assert_close(plan.values(energy.x), truth(energy)[plan.pattern.to_dense()])


@each
def test_auto_is_right_and_shaped_as_torch_func_does(energy):
    with sdpa_kernel(SDPBackend.MATH):
        expected = torch.func.hessian(energy.f)(energy.x)
    assert_close(tj.hessian(energy.f, energy.x), expected)


@each
@pytest.mark.parametrize("uplo", CUT)
@pytest.mark.filterwarnings("ignore:reverse mode from now on")
def test_third_derivatives(energy, uplo):
    if not energy.smooth:
        pytest.skip("no third derivative everywhere, or none that depends on x")
    x = energy.x.clone().requires_grad_()
    plan = tj.plan_hessian(energy.f, energy.x, uplo=uplo)
    weights = torch.randn(plan.pattern.nnz, dtype=x.dtype)
    (got,) = torch.autograd.grad(plan.values(x) @ weights, x)
    with sdpa_kernel(SDPBackend.MATH):
        dense = dense_jacobian(torch.func.grad(energy.reference or energy.f), (x,), create_graph=True)
    (expected,) = torch.autograd.grad(dense[plan.pattern.to_dense()] @ weights, x)
    assert_close(got, expected, 1e-10)


def test_a_minimal_surface_of_64_by_64():
    u = rand(64, 64)
    plan = tj.plan_hessian(minimal_surface, u, ravel=True)
    dense = torch.func.jacrev(torch.func.grad(minimal_surface), chunk_size=64)(u).reshape(64**2, 64**2)
    assert plan.num_products <= 9
    assert torch.equal(dense != 0, plan.pattern.to_dense())
    assert_close(plan.values(u), dense[plan.pattern.to_dense()])


def test_a_float32_hessian():
    x = rand(9, dtype=torch.float32)
    H = tj.hessian(rosenbrock, x, layout=torch.sparse_csr)
    assert H.dtype is torch.float32
    assert_close(H.to_dense(), torch.func.hessian(rosenbrock)(x))


# ---- colors


def test_colors_are_symmetric_and_few():
    plan = tj.plan_hessian(rosenbrock, rand(40))
    assert (plan.mode, plan.num_products) == ("forward", 3)
    assert plan.coloring.partition == "symmetric"
    assert plan.coloring.verify(plan.pattern)
    assert tj.plan_hessian(rosenbrock, rand(40), recovery="substitution").num_products == 2
    assert tj.plan_hessian(hexagon, rand(6), recovery="substitution").num_products == 2


def test_a_dense_hessian_has_no_colors():
    plan = tj.plan_hessian(lambda x: x.sum() ** 4, rand(5))
    assert plan.coloring is None
    assert plan.num_products == 5


def test_auto_solves_for_entries_where_products_cost_more(monkeypatch):
    from torchjac._strategies import hessian_candidates as candidates

    monkeypatch.setattr(candidates, "_TINY", 0)
    monkeypatch.setattr(candidates, "_timed", lambda *_: candidates.UnitCost(0.0, 1.0))
    u = rand(6, 6)
    plan = tj.plan_hessian(minimal_surface, u, ravel=True)
    assert plan.num_products == 5
    assert re.search(r"acyclic, 3 levels 5 HVPs, .*<-- chosen", plan.explain())
    assert_close(plan(u), torch.func.hessian(minimal_surface)(u).reshape(36, 36))
    monkeypatch.setattr(candidates, "_timed", lambda *_: candidates.UnitCost(0.0, 1e-9))
    assert tj.plan_hessian(minimal_surface, u).num_products == 9


@pytest.mark.parametrize(("forward", "mode"), [(1.2, "forward"), (3.0, "reverse")])
def test_reverse_over_reverse_where_it_is_clearly_faster(forward, mode, monkeypatch):
    from torchjac._strategies import hessian_candidates as candidates

    monkeypatch.setattr(candidates, "_TINY", 0)
    cost = {"forward": forward, "reverse": 1.0}
    monkeypatch.setattr(candidates, "_timed", lambda made, way, *_: candidates.UnitCost(0.0, 1e-9 * cost[way]))
    plan = tj.plan_hessian(rosenbrock, rand(9))
    assert plan.mode == mode
    assert f"{mode}-over-reverse" in plan.explain()


def test_what_is_seen_of_a_plan():
    plan = tj.plan_hessian(rosenbrock, rand(9), uplo="lower")
    assert repr(plan) == "HessianPlan(9 x 9, 17 entries, 3 products, forward)"
    text = plan.explain()
    assert "9 inputs -> a number" in text
    assert "3 HVPs instead of 9, one for each input; all at once; forward-over-reverse, the default" in text


# ---- several inputs, layouts, aux


def coupled(x, scale, y):
    return (x["a"] ** 2 * y[:2]).sum() * scale + (x["b"] * y[2]).exp().sum() + y[0] ** 3


def inputs():
    return {"a": rand(2), "b": rand(3)}, 2.0, rand(3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("argnums", [0, 2, (0,), (0, 2), (2, 0), -1])
def test_blocks_are_nested_as_torch_func_does(argnums, layout):
    x, scale, y = inputs()
    got = tj.hessian(coupled, x, scale, y, argnums=argnums, layout=layout)
    places = argnums if isinstance(argnums, tuple) else argnums % 3
    expected = torch.func.hessian(coupled, argnums=places)(x, scale, y)
    from torch.utils import _pytree as pytree

    mine, spec = pytree.tree_flatten(got)
    theirs, same = pytree.tree_flatten(expected)
    assert spec == same
    for block, dense in zip(mine, theirs, strict=True):
        assert_close(block if layout is torch.strided else block.to_dense(), dense)


def test_a_triangle_of_several_inputs_is_that_of_the_whole():
    x, scale, y = inputs()
    whole = tj.hessian(coupled, x, scale, y, argnums=(2, 0), ravel=True)
    assert_close(tj.hessian(coupled, x, scale, y, argnums=(2, 0), ravel=True, uplo="lower"), whole.tril())
    blocks = tj.hessian(coupled, x, scale, y, argnums=(2, 0), uplo="lower")
    assert_close(blocks[1]["a"][0], whole[3:5, :3])
    assert not blocks[0][1]["a"].any()


@MODES
def test_value_gradient_and_hessian(mode):
    x = rand(7)
    value, gradient, hessian = tj.plan_hessian(rosenbrock, x, mode=mode).value_grad_hessian(x)
    assert_close(value, rosenbrock(x))
    assert_close(gradient, torch.func.grad(rosenbrock)(x))
    assert_close(hessian, torch.func.hessian(rosenbrock)(x))


def test_aux_of_any_kind_and_the_shape_of_the_value():
    def f(x):
        return rosenbrock(x)[None], {"name": "chained", "flag": True, "twice": 2 * x}

    x = rand(5)
    plan = tj.plan_hessian(f, x, has_aux=True)
    H, aux = plan(x)
    (value, again), gradient, _ = plan.value_grad_hessian(x)
    assert (aux["name"], aux["flag"]) == ("chained", True)
    assert_close(again["twice"], 2 * x)
    assert value.shape == (1,)
    assert_close(gradient, torch.func.grad(rosenbrock)(x))
    assert_close(H, torch.func.hessian(rosenbrock)(x))


def test_random_numbers_are_the_same_for_value_gradient_and_hessian():
    def noisy(x):
        return (x**3 * torch.rand_like(x)).sum()

    x = rand(6)
    value, gradient, hessian = tj.plan_hessian(noisy, x).value_grad_hessian(x)
    assert_close((gradient * x).sum(), 3 * value)
    assert_close(hessian.diagonal() * x, 2 * gradient)


# ---- options


@pytest.mark.parametrize("uplo", CUT)
def test_a_given_pattern_may_be_a_triangle(uplo):
    x = rand(6)
    lower = tj.SparsityPattern.from_dense(np.tril(tj.hessian_sparsity(rosenbrock, x).to_dense()))
    plan = tj.plan_hessian(rosenbrock, x, sparsity=lower, uplo=uplo)
    assert_close(plan(x), CUT[uplo](torch.func.hessian(rosenbrock)(x)))


@pytest.mark.parametrize("uplo", CUT)
@MODES
def test_without_a_pattern(uplo, mode):
    x = rand(4)
    plan = tj.plan_hessian(rosenbrock, x, sparsity=None, uplo=uplo, mode=mode)
    assert plan.num_products == 4
    assert_close(plan(x), CUT[uplo](torch.func.hessian(rosenbrock)(x)))


@pytest.mark.parametrize("uplo", CUT)
def test_a_missing_entry_is_found(uplo):
    diagonal = tj.SparsityPattern.from_dense(np.eye(5))
    with pytest.raises(tj.StalePatternError):
        tj.plan_hessian(rosenbrock, rand(5), sparsity=diagonal, uplo=uplo)(rand(5))


@pytest.mark.parametrize("uplo", CUT)
@pytest.mark.parametrize("recovery", ["direct", "substitution"])
def test_plans_are_saved(uplo, recovery, tmp_path):
    x = rand(5, 5)
    plan = tj.plan_hessian(minimal_surface, x, uplo=uplo, recovery=recovery, layout=torch.sparse_coo, ravel=True)
    plan.save(tmp_path / "plan.npz")
    again = tj.load_plan(tmp_path / "plan.npz", minimal_surface)
    assert isinstance(again, tj.HessianPlan)
    assert again.pattern == plan.pattern
    assert_close(again(x).to_dense(), plan(x).to_dense())
    assert repr(again) == repr(plan)


def test_memory_is_bounded_by_chunks():
    x = rand(3000)
    plan = tj.plan_hessian(lambda x: (x[:, None] * x.roll(1)[:, None]).tanh().sum(), x, memory="1MiB")
    assert plan.chunk <= plan.num_products
    with pytest.raises(tj.OptionError, match="memory="):
        tj.plan_hessian(rosenbrock, x, memory=1000)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mode": "bidirectional"}, "symmetric: rows and columns share"),
        ({"uplo": "low"}, "uplo='low'"),
        ({"recovery": "read"}, "recovery='read'"),
        ({"upo": "lower"}, "uplo='lower'"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(tj.OptionError, match=text):
        tj.plan_hessian(rosenbrock, rand(3), **options)


def test_a_jacobian_has_no_triangle():
    with pytest.raises(tj.OptionError, match="no option 'uplo'"):
        tj.plan_jacobian(rosenbrock, rand(3), uplo="lower")


def test_wrong_functions():
    with pytest.raises(tj.OutputError, match=r"float64\[3\].*\n.*one real number"):
        tj.plan_hessian(lambda x: x * 2, rand(3))
    with pytest.raises(tj.OutputError, match="one real number"):
        tj.plan_hessian(lambda x: (x.sum(), x), rand(3))
    with pytest.raises(tj.OutputError, match="has_aux"):
        tj.plan_hessian(lambda x: x.sum(), rand(3), has_aux=True)
    with pytest.raises(tj.InputError, match="complex"):
        tj.plan_hessian(lambda z: z.abs().sum(), torch.rand(2, dtype=torch.complex128))
    with pytest.raises(tj.InputError, match="not a function"):
        tj.plan_hessian(rand(3), rand(3))
    with pytest.raises(ZeroDivisionError):
        tj.plan_hessian(lambda x: x.sum() / 0 if 1 // 0 else x.sum(), rand(3))


# ---- what PyTorch refuses


@pytest.mark.parametrize("cube", [CubeTheOldWay.apply, CubeWithContext.apply])
def test_functions_of_ones_own(cube):
    x = rand(6)
    f = lambda x: (cube(x) * x.roll(1)).sum()  # noqa: E731  # one line, used twice
    expected = torch.func.hessian(lambda x: (x**3 * x.roll(1)).sum())(x)
    assert_close(tj.hessian(f, x), expected)


def test_checkpoints():
    f = lambda x: checkpoint(rosenbrock, x, use_reentrant=False)  # noqa: E731  # one line, used twice
    x = rand(6)
    plan = tj.plan_hessian(f, x)
    assert plan.mode == "reverse"
    value, gradient, hessian = plan.value_grad_hessian(x)
    assert_close(value, rosenbrock(x))
    assert_close(gradient, torch.func.grad(rosenbrock)(x))
    assert_close(hessian, torch.func.hessian(rosenbrock)(x))


def test_what_torch_func_refuses_with_a_given_pattern_and_from_a_file(tmp_path):
    f = lambda x: checkpoint(rosenbrock, x, use_reentrant=False)  # noqa: E731  # one line, used often
    x = rand(6)
    plan = tj.plan_hessian(f, x, sparsity=tj.hessian_sparsity(rosenbrock, x), mode="reverse")
    assert_close(plan(x), torch.func.hessian(rosenbrock)(x))
    plan.save(tmp_path / "plan.npz")
    assert_close(tj.load_plan(tmp_path / "plan.npz", f)(x), torch.func.hessian(rosenbrock)(x))


def test_an_error_of_f_is_raised_as_it_is():
    def f(x):
        if x.shape[0] == 6:
            raise RuntimeError("six is not allowed")
        return x.sum()

    with pytest.raises(RuntimeError, match="six is not allowed"):
        tj.plan_hessian(f, rand(6))


def test_third_derivatives_of_a_plan_from_a_file(tmp_path):
    energy = next(e for e in ENERGIES if e.name == "layer norm")
    tj.plan_hessian(energy.f, energy.x).save(tmp_path / "plan.npz")
    x = energy.x.clone().requires_grad_()
    H = tj.load_plan(tmp_path / "plan.npz", energy.f)(x)
    (got,) = torch.autograd.grad(H.square().sum(), x)
    dense = dense_jacobian(torch.func.grad(energy.reference), (x,), create_graph=True)
    assert_close(got, torch.autograd.grad(dense.square().sum(), x)[0], 1e-10)


def test_no_forward_formula():
    x = rand(4, 2)
    plan = tj.plan_hessian(lambda x: (torch.linalg.cholesky(x.T @ x) ** 2 * x[:2]).sum(), x, ravel=True)
    f = lambda x: (torch.linalg.cholesky(x.T @ x) ** 2 * x[:2]).sum()  # noqa: E731  # one line, used twice
    assert_close(plan(x), torch.func.jacrev(torch.func.jacrev(f))(x).reshape(8, 8), 1e-10)


def test_f_writes_to_its_input():
    def f(x):
        x[1:] = x[:-1].clone() ** 2
        return (x**2).sum()

    x = rand(5)
    before = x.clone()
    assert_close(tj.hessian(f, x), torch.func.hessian(lambda x: x[0] ** 2 + (x[:-1] ** 4).sum())(x))
    assert torch.equal(x, before)


def test_the_fused_attention_kernel_is_replaced():
    q = rand(1, 2, 8, 8, dtype=torch.float32)
    f = lambda q: F.scaled_dot_product_attention(q, q, q).square().sum()  # noqa: E731  # one line, used twice
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = torch.func.hessian(f)(q).reshape(128, 128)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.TorchjacWarning)
        assert_close(tj.hessian(f, q, ravel=True), expected, 1e-4)
        assert_close(tj.hessian(f, q, ravel=True, memory="100MiB"), expected, 1e-4)


def test_parameters_get_gradients():
    w = rand(4, grad=True)
    x = rand(4)
    f = lambda x: (w * x**3).sum()  # noqa: E731  # one line
    tj.hessian(f, x).sum().backward()
    assert_close(w.grad, 6 * x)


def test_statistics_of_a_batch_norm_are_updated_and_third_derivatives_right():
    norm = torch.nn.BatchNorm1d(2, affine=False).double()
    x = rand(4, 2, grad=True)
    plan = tj.plan_hessian(lambda x: (norm(x) ** 3).sum(), x)
    (got,) = torch.autograd.grad(plan(x).square().sum(), x)
    by_definition = lambda x: (standardised(x.T) ** 3).sum()  # noqa: E731  # one line
    (expected,) = torch.autograd.grad(
        dense_jacobian(torch.func.grad(by_definition), (x,), create_graph=True).square().sum(), x
    )
    assert_close(got, expected, 1e-10)
    assert norm.num_batches_tracked > 0
    assert norm.running_mean.abs().min() > 0


# ---- compiled


@pytest.mark.parametrize(("uplo", "recovery"), [("full", "direct"), ("lower", "substitution")])
def test_compiled(uplo, recovery):
    plan = tj.plan_hessian(rosenbrock, rand(9), compile=True, uplo=uplo, recovery=recovery)
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)
        plan(rand(9))
        for _ in range(2):
            x = rand(9)
            assert_close(plan(x), CUT[uplo](torch.func.hessian(rosenbrock)(x)))


def test_compiled_sums_of_what_is_read_several_times():
    """Inductor adds into all copies of an expanded tensor at once, where it is not copied first."""
    places = torch.tensor([0, 2, 1, 0, 4, 4])
    compiled, eager = (
        tj.plan_hessian(lambda x: (x[places] ** 3).sum(), rand(5), mode="forward", compile=c) for c in (True, False)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)
        for x in rand(3, 5):
            assert_close(compiled.values(x), eager.values(x))
    assert compiled._evaluator.program.regions > 0


# ---- Lagrangians


def test_one_plan_serves_all_multipliers():
    def lagrangian(x, multipliers, weight):
        return weight * rosenbrock(x) + (multipliers * (x[1:] ** 2 * x[:-1])).sum()

    x, multipliers = rand(6), rand(5)
    plan = tj.plan_hessian(lagrangian, x, torch.zeros(5, dtype=x.dtype), 0.0, argnums=0, uplo="lower")
    rows, columns = plan.pattern.rows, plan.pattern.indices
    assert (rows >= columns).all()
    for weight, given in [(1.0, multipliers), (0.0, multipliers), (2.0, torch.zeros_like(multipliers))]:
        dense = torch.zeros(6, 6, dtype=x.dtype)
        dense[rows, columns] = plan.values(x, given, weight)
        assert_close(dense, torch.func.hessian(lagrangian)(x, given, weight).tril())
