"""Every case of the table, through the public verbs, against a loop of plain autograd."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from cases import CASES, Case
from oracles import assert_close, dense_jacobian, joined
from torch.utils import _pytree as pytree

import torchjac as tj

LAYOUTS = [torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc]

every_case = pytest.mark.parametrize("case", CASES, ids=str)
smooth_case = pytest.mark.parametrize("case", [case for case in CASES if case.smooth], ids=str)
every_mode = pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
pytestmark = pytest.mark.filterwarnings("ignore::torchjac.TorchjacWarning")


def output(case: Case):
    with torch.no_grad():
        return case.f(*pytree.tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, case.args))


def jacobian(case: Case, *args, **options):
    return tj.jacobian(case.f, *(args or case.args), argnums=case.argnums, **options)


@every_case
def test_the_pattern_is_the_one_written_down(case):
    pattern = tj.jacobian_sparsity(case.f, *case.args, argnums=case.argnums)
    np.testing.assert_array_equal(pattern.to_dense().numpy(), case.pattern)
    nonzero = dense_jacobian(case.f, case.args, case.argnums).numpy() != 0
    assert not (nonzero & ~case.pattern).any()


@every_case
@every_mode
def test_values_are_those_of_plain_autograd(case, mode):
    if mode == "forward" and not case.forward:
        pytest.skip("no forward derivative")
    expected, out = dense_jacobian(case.f, case.args, case.argnums), output(case)
    for layout in LAYOUTS:
        J = jacobian(case, mode=mode, layout=layout)
        assert_close(joined(J, out, case.inputs), expected)
        whole = jacobian(case, mode=mode, layout=layout, ravel=True)
        assert whole.layout is layout
        assert_close(whole if layout is torch.strided else whole.to_dense(), expected)


@every_case
def test_a_strided_result_has_the_shapes_and_nesting_of_jacrev(case):
    if case.name in ("without setup_context", "straight through", "into its input"):
        pytest.skip("torch.func.jacrev refuses it")
    expected, got = torch.func.jacrev(case.f, case.argnums)(*case.args), jacobian(case)
    assert pytree.tree_structure(got) == pytree.tree_structure(expected)
    assert [t.shape for t in pytree.tree_leaves(got)] == [t.shape for t in pytree.tree_leaves(expected)]


@every_case
def test_the_dense_way_agrees(case):
    for mode in ["reverse", "forward"] if case.forward else ["reverse"]:
        J = jacobian(case, sparsity=None, ravel=True, mode=mode)
        assert_close(J, dense_jacobian(case.f, case.args, case.argnums))


@every_case
def test_the_callers_tensors_stay_as_they_are(case):
    before = pytree.tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, case.args)
    for mode in ["auto", "reverse", "forward"] if case.forward else ["auto", "reverse"]:
        plan = tj.plan_jacobian(case.f, *case.args, argnums=case.argnums, mode=mode)
        plan(*case.args)
        plan.value_and_jacobian(*case.args)
    assert all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(pytree.tree_leaves(case.args), pytree.tree_leaves(before), strict=True)
    )


def with_grad(case: Case):
    args = pytree.tree_map(lambda t: t.detach().clone() if isinstance(t, torch.Tensor) else t, case.args)
    leaves = pytree.tree_leaves(case.__class__(case.name, case.f, args, case.pattern, case.argnums).inputs)
    for leaf in leaves:
        leaf.requires_grad_()
    return args, leaves


def gradient(scalar, leaves, create_graph=False):
    found = torch.autograd.grad(scalar, leaves, create_graph=create_graph, allow_unused=True)
    return torch.cat(
        [torch.zeros_like(x).reshape(-1) if g is None else g.reshape(-1) for g, x in zip(found, leaves, strict=True)]
    )


@smooth_case
@every_mode
def test_first_and_second_gradients_through_j_are_those_of_reverse_over_reverse(case, mode):
    if mode == "forward" and not case.forward:
        pytest.skip("no forward derivative")
    args, leaves = with_grad(case)
    weights = torch.randn(case.pattern.shape)
    grads = []
    for J in (
        jacobian(case, *args, mode=mode, ravel=True),
        dense_jacobian(case.f, args, case.argnums, create_graph=True),
    ):
        first = gradient((weights * J**2).sum(), leaves, create_graph=True)
        second = gradient(first.sin().sum(), leaves)
        grads.append((first.detach(), second))
    tolerance = 1e-10 if grads[1][0].dtype is torch.float64 else 1e-4
    assert_close(grads[0][0], grads[1][0], tolerance)
    assert_close(grads[0][1], grads[1][1], tolerance)
    assert grads[1][0].any()


@smooth_case
def test_no_graph_without_grad_mode_or_without_somebody_who_asks(case):
    args, _ = with_grad(case)
    with torch.no_grad():
        assert not jacobian(case, *args, ravel=True).requires_grad
    assert not jacobian(case, ravel=True).requires_grad
    assert jacobian(case, *args, ravel=True).requires_grad


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_sparse_results_are_valid_and_carry_gradients(layout):
    x = torch.rand(5, dtype=torch.float64, requires_grad=True)
    with torch.sparse.check_sparse_tensor_invariants():
        J = tj.jacobian(lambda x: x * x.roll(1), x, layout=layout)
    vector = torch.rand(5, dtype=torch.float64)
    (got,) = torch.autograd.grad((J @ vector).sum(), x)
    expected = dense_jacobian(lambda x: x * x.roll(1), (x,), create_graph=True) @ vector
    assert_close(got, torch.autograd.grad(expected.sum(), x)[0])


def test_non_contiguous_expanded_and_shared_inputs():
    base = torch.rand(4, 3, dtype=torch.float64)
    for x in (base.t(), base[:, ::2], base[:1].expand(4, 3), base.flip(0)):
        assert_close(
            tj.jacobian(lambda x: x * x.roll(1, 0), x, ravel=True), dense_jacobian(lambda x: x * x.roll(1, 0), (x,))
        )
    J = tj.jacobian(lambda x, y: x * y**2, base, base, argnums=(0, 1), ravel=True)
    assert_close(J, dense_jacobian(lambda x, y: x * y**2, (base, base), (0, 1)))


def test_one_call_is_a_plan_called_once():
    x = torch.rand(6, dtype=torch.float64)
    plan = tj.plan_jacobian(torch.sin, x)
    assert torch.equal(tj.jacobian(torch.sin, x), plan(x))


def test_f_may_be_any_callable():
    x = torch.rand(3, dtype=torch.float64)
    linear = torch.nn.Linear(3, 2).double()
    assert_close(tj.jacobian(linear, x).detach(), linear.weight.detach())


def test_arguments_by_name_are_not_taken_for_the_functions():
    with pytest.raises(tj.OptionError, match="there is no option 'scale'"):
        tj.jacobian(lambda x, scale: x * scale, torch.rand(3), scale=2.0)
    plan = tj.plan_jacobian(lambda x, scale: x * scale, torch.rand(3), 2.0)
    with pytest.raises(tj.SignatureError, match=r"keyword argument scale=\n(.|\n)*functools.partial\(f, scale=...\)"):
        plan(torch.rand(3), scale=2.0)


def test_nothing_is_announced_where_nothing_is_unusual():
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)
        tj.jacobian(lambda x: x * x.roll(1), torch.rand(5, requires_grad=True))
