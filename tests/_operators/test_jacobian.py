"""JacobianOperator: what the dense Jacobian does, by as few products as it takes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close, dense_jacobian
from torch.nn import functional as F
from wrong_derivatives import Hidden, OnceOnly, WrongBatches, WrongForward

import torchjac as tj


def rand(*shape, dtype=torch.float64, grad=False):
    return torch.rand(*shape, dtype=dtype, requires_grad=grad)


def wide(x):  # 5 -> 4, banded, with a row that reads nothing
    return torch.cat([x[1:4] * x[:3].sin() * x[2:5], torch.ones_like(x[:1])])


def tree(inputs):  # {"a": (2, 3), "b": ()} -> ((3,), (2, 2))
    a, b = inputs["a"], inputs["b"]
    return (a * b).sum(0), (a[:, :2] * b.exp(), a[0, 0] * b)[0]


def cumulated(x):
    return x.cumsum(0)[: x.numel() // 2] * x[0]


FUNCTIONS = {
    "wide": (wide, rand(5)),
    "tree": (tree, {"a": rand(2, 3), "b": rand(())}),
    "tall": (lambda x: torch.cat([x, x * x.roll(1), x.exp()]), rand(4)),
    "dense": (cumulated, rand(9)),
    "empty output": (lambda x: x[:0] * 2, rand(3)),
    "constant": (lambda x: torch.ones(2, dtype=x.dtype), rand(3)),
    "float32": (wide, rand(5, dtype=torch.float32)),
}
EITHER = pytest.mark.parametrize("made", ["function", "plan"])
EACH = pytest.mark.parametrize("name", FUNCTIONS)


def operator(name, made):
    f, x = FUNCTIONS[name]
    return tj.JacobianOperator(f, x) if made == "function" else tj.plan_jacobian(f, x, check=False).operator(x)


class Counting:
    """How many products an operator takes."""

    def __init__(self, monkeypatch, A):
        self.sizes = []
        for name in ("jvps", "vjps"):
            monkeypatch.setattr(A, name, self.counted(getattr(A, name)))

    def counted(self, product):
        def run(seeds):
            self.sizes.append(len(seeds))
            return product(seeds)

        return run

    @property
    def count(self):
        return sum(self.sizes)


@EACH
@EITHER
def test_it_is_the_dense_jacobian(name, made):
    A, J = operator(name, made), dense_jacobian(FUNCTIONS[name][0], FUNCTIONS[name][1:])
    (m, n), dtype = J.shape, J.dtype
    v, X, u, U = rand(n, dtype=dtype), rand(n, 3, dtype=dtype), rand(m, dtype=dtype), rand(3, m, dtype=dtype)
    assert (A.shape, A.dtype) == ((m, n), dtype)
    assert_close(A @ v, J @ v)
    assert_close(A @ X, J @ X)
    assert_close(u @ A, u @ J)
    assert_close(U @ A, U @ J)
    assert_close(A.T @ u, J.T @ u)
    assert_close(A.T.T @ X[:, :0], J @ X[:, :0])
    assert_close(A.to_dense(), J)
    assert_close(A.T.to_dense(), J.T)
    assert_close(A.diagonal(), J.diagonal())
    assert_close(A.gram().to_dense(), J.T @ J)
    assert_close(A.gram() @ v, J.T @ (J @ v))


INDICES = [
    1,
    -1,
    (0, 2),
    (slice(1, None), -1),
    (..., 0),
    ([0, 2, 2], slice(None)),
    ([1, 3], [0, 4]),
    ([[1], [3]], [0, 4]),
    (torch.tensor([2, 0]), slice(0, 5, 2)),
    torch.tensor([True, False, True, False]),
    (None, 1),
    (np.array([0, 1]), 3),
    (slice(2, 2), slice(None)),
    (3, slice(None)),
    (),
]


@EITHER
@pytest.mark.parametrize("index", INDICES, ids=str)
def test_an_index_means_what_it_means_to_a_tensor(index, made):
    A, J = operator("wide", made), dense_jacobian(wide, FUNCTIONS["wide"][1:])
    assert_close(A[index], J[index])
    assert_close((2 * A)[index], 2 * J[index])


@EITHER
def test_rows_columns_and_masks(made):
    A, J = operator("wide", made), dense_jacobian(wide, FUNCTIONS["wide"][1:])
    mask = torch.rand(J.shape) < 0.4
    assert_close(A[mask], J[mask])
    assert_close(A.rows([2, 0]), J[[2, 0]])
    assert_close(A.columns(slice(1, 3)), J[:, 1:3])
    assert_close(A.T[1, :], J[:, 1])
    assert_close(A.T[[0, 3], [1, 1]], J[[1, 1], [0, 3]])


@given(st.data(), st.integers(0, 10_000))
def test_any_entries_of_any_pattern(data, seed):
    m, n = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    rng = np.random.default_rng(seed)
    mask = torch.from_numpy(rng.random((m, n)) < data.draw(st.sampled_from([0.1, 0.3, 0.8])))
    numbers = torch.from_numpy(rng.random((m, n))) * mask
    x = rand(n)
    plan = tj.plan_jacobian(lambda x: numbers @ x, x, sparsity=mask, check=False)
    A, k = plan.operator(x), data.draw(st.integers(0, 12))
    rows, columns = torch.from_numpy(rng.integers(0, m, k)), torch.from_numpy(rng.integers(0, n, k))
    assert_close(A[rows, columns], numbers[rows, columns])
    assert_close(A.diagonal(), numbers.diagonal())


def test_an_index_out_of_range_is_an_index_error():
    with pytest.raises(IndexError, match="out of bounds"):
        operator("wide", "function")[9]


# ---- how many products


def tridiagonal(x):
    return x * (1 + F.pad(x, (1, 1))[2:] + F.pad(x, (1, 1))[:-2])


@pytest.mark.parametrize(
    ("index", "products"),
    [((0, 0), 1), ((slice(None), 3), 1), ((3,), 1), (([1, 2], slice(None)), 2), (([1, 2, 3], [5, 5, 5]), 1)],
)
def test_without_a_pattern_as_few_products_as_rows_or_columns(index, products, monkeypatch):
    A = tj.JacobianOperator(tridiagonal, rand(50))
    counting = Counting(monkeypatch, A)
    A[index]
    assert counting.count == products


@pytest.mark.parametrize(
    ("index", "products"),
    [
        ((0, 9), 0),  # outside
        ((slice(0, 10), slice(20, 30)), 0),
        ((slice(0, 50, 3), slice(None)), 1),  # rows that do not meet
        ((slice(None), slice(0, 50, 3)), 1),
        ((slice(None), slice(0, 50, 2)), 2),
        (([0, 10, 20, 30], [0, 11, 19, 45]), 1),
    ],
)
def test_with_a_pattern_rows_or_columns_share_products(index, products, monkeypatch):
    x = rand(50)
    A = tj.plan_jacobian(tridiagonal, x).operator(x)
    counting = Counting(monkeypatch, A)
    assert_close(A[index], dense_jacobian(tridiagonal, (x,))[index])
    assert counting.count == products


def test_a_diagonal_takes_fewer_products_than_the_whole(monkeypatch):
    x = rand(50)
    plan = tj.plan_jacobian(tridiagonal, x)
    A = plan.operator(x)
    counting = Counting(monkeypatch, A)
    assert_close(A.diagonal(), dense_jacobian(tridiagonal, (x,)).diagonal())
    assert counting.count == 2 < plan.num_products


def test_a_wrong_pattern_is_found_before_zeros_are_taken_from_it():
    x = rand(6)
    plan = tj.plan_jacobian(lambda x: x.cumsum(0) * x, x, sparsity=torch.eye(6))
    for A in (plan.operator(x), plan.operator(x).T, 2 * plan.operator(x), plan.operator(x) + plan.operator(x)):
        with pytest.raises(tj.StalePatternError):
            A[0, 5]
    assert plan.operator(x) @ x is not None  # products know no pattern


LARGE = 3 * 600_000  # numbers; of products with so many, two are computed at once


@pytest.mark.parametrize("take", [lambda A: A.to_dense(), lambda A: A[:3]], ids=["all", "rows"])
def test_large_rows_come_in_chunks(take, monkeypatch):
    x = rand(LARGE)
    A = tj.JacobianOperator(lambda x: x.reshape(3, -1).square().sum(1), x)
    sizes = Counting(monkeypatch, A).sizes
    assert torch.equal(take(A), torch.block_diag(*(2 * x).reshape(3, -1)))
    assert sizes == [2, 1]


@pytest.mark.parametrize(
    "take", [lambda A: A.to_dense(), lambda A: A[:, [2, 0, 1]][:, [1, 2, 0]]], ids=["all", "columns"]
)
def test_large_columns_come_in_chunks(take, monkeypatch):
    x, w = rand(3), rand(LARGE // 3)
    A = tj.JacobianOperator(lambda x: torch.outer(x, w).reshape(-1), x)
    sizes = Counting(monkeypatch, A).sizes
    assert torch.equal(take(A), torch.block_diag(w, w, w).T)
    assert sizes == [2, 1]


def test_f_runs_once_for_all_products_and_again_after_a_change():
    calls = []

    def f(x):
        calls.append(1)
        return x * x

    x = rand(6)
    A = tj.JacobianOperator(f, x)
    A @ rand(6), A.T @ rand(6), A[2], A.T @ rand(6, 3), A.to_dense()
    assert len(calls) == 1
    with torch.no_grad():
        x.mul_(2)
    assert_close(A.diagonal(), 2 * x)
    assert_close(A @ torch.ones_like(x), 2 * x)


# ---- algebra


def test_sums_products_and_multiples_are_those_of_the_matrices():
    x, y = rand(5), rand(4)
    A, B = tj.JacobianOperator(wide, x), tj.JacobianOperator(lambda y: torch.cat([y.sin(), y[:1]]) * y.sum(), y)
    a, b = A.to_dense(), B.to_dense()
    S = tj.plan_jacobian(wide, x).matrix(x + 1)
    s, half = S.to_dense(), torch.tensor(0.5, dtype=torch.float64)
    for C, expected in [
        (A @ B, a @ b),
        ((A @ B).T, (a @ b).T),
        (A + S, a + s),
        (S + A, a + s),
        (S - 2 * A, s - 2 * a),
        (A - S, a - s),
        (-(A * half), -a / 2),
        (half * A / 4, a / 8),
        (S.T @ A, s.T @ a),
        (A @ S.T, a @ s.T),
        (np.float64(3) * A, 3 * a),
        ((A @ B) @ (B.T + A), a @ b @ (b.T + a)),
    ]:
        assert not isinstance(C, (torch.Tensor, tj.SparseMatrix))  # nothing is multiplied before a vector is
        u, v = rand(C.shape[0]), rand(C.shape[1], 2)
        assert_close(C.to_dense(), expected)
        assert_close(C @ v, expected @ v)
        assert_close(u @ C, u @ expected)
        assert_close(C.T @ u, expected.T @ u)
        assert_close(C[1], expected[1])
        assert_close(C.T[:, 0], expected.T[:, 0])


def test_a_sum_knows_the_pattern_when_both_do():
    x = rand(5)
    plan = tj.plan_jacobian(wide, x)
    assert (plan.operator(x) + plan.matrix(x)).pattern == plan.pattern
    assert (plan.operator(x).T * 2).pattern == plan.pattern.T
    assert (plan.operator(x) + tj.JacobianOperator(wide, x)).pattern is None


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (lambda A: A @ rand(4), r"expected: a strided tensor of shape \(5,\) or \(5, k\)"),
        (lambda A: rand(5) @ A, r"expected: a strided tensor of shape \(4,\) or \(k, 4\)"),
        (lambda A: A @ rand(5).float(), r"x.to\(A.device, A.dtype\)"),
        (lambda A: A @ A, "4 rows in the second|5 rows in the second"),
        (lambda A: A + A.T, "expected: the same shape"),
    ],
)
def test_what_does_not_fit_is_refused(made, complaint):
    with pytest.raises(tj.InputError, match=complaint):
        made(operator("wide", "function"))


def test_other_types_are_type_errors():
    A = operator("wide", "function")
    for bad in (lambda: A + 1, lambda: A * "a", lambda: A * rand(3), lambda: A @ [1.0], lambda: np.ones(4) @ A):
        with pytest.raises(TypeError):
            bad()


def test_complex_functions_are_refused():
    with pytest.raises(tj.InputError, match="is complex"):
        tj.JacobianOperator(lambda x: torch.complex(x, x), rand(3))


# ---- gradients


@EITHER
def test_results_are_differentiable_by_inputs_vectors_and_parameters(made):
    w = rand(5, grad=True)

    def f(x):
        return wide(x * w)

    def run(x, v, u, by):
        A = tj.JacobianOperator(f, x) if by == "function" else tj.plan_jacobian(f, x, check=False).operator(x)
        return (A @ v).square().sum() + (A.T @ u).sin().sum() + A[1, :].prod() + (A @ v[:, None].expand(-1, 2)).sum()

    def reference(x, v, u):
        J = torch.func.jacrev(f)(x)
        return (J @ v).square().sum() + (J.T @ u).sin().sum() + J[1].prod() + (J @ v[:, None].expand(-1, 2)).sum()

    args = rand(5, grad=True), rand(5, grad=True), rand(4, grad=True)
    got = torch.autograd.grad(run(*args, made), (*args, w))
    for mine, theirs in zip(got, torch.autograd.grad(reference(*args), (*args, w)), strict=True):
        assert_close(mine, theirs)


def test_a_parameter_behind_the_input_counts_once():
    w = rand(5, grad=True)
    v, u = rand(5), rand(4)

    def loss(w, J):
        return (J @ v).square().sum() + (u @ J).square().sum()

    def f(x):
        return wide(x * w)

    x = w.sin()
    expected = torch.autograd.grad(loss(w, dense_jacobian(f, (x,), create_graph=True)), w)
    assert_close(torch.autograd.grad(loss(w, tj.JacobianOperator(f, w.sin())), w)[0], expected[0])


def test_gradients_have_gradients():
    v, p = rand(5), rand(5, grad=True)

    def through(p):
        return tj.JacobianOperator(lambda x: wide(x * p), p.exp()) @ (v * p)

    assert torch.autograd.gradcheck(through, p)
    assert torch.autograd.gradgradcheck(through, p)
    assert torch.autograd.gradgradcheck(lambda p: torch.ones(4, dtype=p.dtype) @ tj.JacobianOperator(wide, p.exp()), p)


def test_a_backward_leaves_the_operator_as_it_is():
    x, v, u = rand(5, grad=True), rand(5), rand(4)
    A = tj.JacobianOperator(wide, x)
    first, second = (A @ v).square().sum(), (A.T @ u).square().sum()
    for loss in (first, second, (A.T @ u).sum(), A.to_dense().sum()):
        loss.backward()
    (slope,) = torch.autograd.grad((A.T @ u).square().sum(), x, create_graph=True)
    slope.sum().backward()
    J = dense_jacobian(wide, (x,))
    assert_close(A.T @ u, J.T @ u)
    assert_close(A @ v, J @ v)


def test_results_follow_grad_mode():
    x = rand(5, grad=True)
    A = tj.JacobianOperator(wide, x)
    assert (A @ rand(5)).requires_grad
    assert (A @ rand(5, 0)).shape == (4, 0)
    with torch.no_grad():
        assert not (A @ rand(5)).requires_grad
        assert not A[0].requires_grad
    B = tj.JacobianOperator(wide, x.detach())
    assert not (B @ rand(5)).requires_grad
    assert not (B.T @ rand(4)).requires_grad


def test_gradients_through_layer_norm_are_right():  # forward mode has a wrong one
    x, v = rand(3, 4, grad=True), rand(12)

    def f(x):
        return F.layer_norm(x, (4,))

    got = torch.autograd.grad((tj.JacobianOperator(f, x) @ v).square().sum(), x)[0]
    J = torch.func.jacrev(f)(x).reshape(12, 12)
    assert_close(got, torch.autograd.grad((J @ v).square().sum(), x)[0])


def test_inference_mode_gives_values():
    with torch.inference_mode():
        x = rand(5)
        A = tj.JacobianOperator(wide, x)
        got = A @ torch.ones_like(x)
    assert_close(got, dense_jacobian(wide, (x.clone(),)).sum(1))


# ---- what PyTorch refuses, or gets wrong


def test_cdist_whose_batches_were_wrong():
    x, U = rand(4, 2), rand(5, 16)

    def f(x):
        return torch.cdist(x, x + 1)

    assert_close(U @ tj.JacobianOperator(f, x), U @ dense_jacobian(f, (x,)))


def test_one_at_a_time_where_there_are_no_batches():
    x, U = rand(3), rand(4, 3)
    with pytest.warns(tj.TorchjacWarning, match=r"products J\^T u run one at a time, because PyTorch said"):
        assert_close(U @ tj.JacobianOperator(Hidden.apply, x), U * x.exp())


def test_wrong_batches_are_found():
    x, U = rand(3), rand(4, 3)
    with pytest.warns(tj.TorchjacWarning, match="batches of them are wrong"):
        assert_close(U @ tj.JacobianOperator(WrongBatches.apply, x), U * x.exp())


def test_forward_mode_where_there_is_no_second_derivative():
    x = rand(3)
    A = tj.JacobianOperator(OnceOnly.apply, x)
    with pytest.warns(tj.TorchjacWarning, match="products J v run by forward mode"):
        got = A @ torch.ones(3, 2, dtype=x.dtype)
    assert_close(got, x.exp()[:, None].expand(3, 2))
    assert_close(A @ x, x * x.exp())


def test_neither_second_derivative_nor_forward_mode():
    x, v = rand(3), rand(3)
    hidden = tj.JacobianOperator(Hidden.apply, x)
    with pytest.warns(tj.TorchjacWarning, match="a VJP for each output from now on, because"):
        assert_close(hidden @ v, x.exp() * v)
    assert_close(hidden @ torch.stack([v, x], 1), x.exp()[:, None] * torch.stack([v, x], 1))


class OnceByContext(torch.autograd.Function):
    """A sine as most code writes it: ctx in forward, and a backward that is differentiable once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (OnceByContext.apply, rand(4)),
        (lambda x: F.scaled_dot_product_attention(x, x, x), rand(1, 2, 3, 4)),
        (lambda x: torch.cdist(x, x[:2] + 1), rand(3, 4)),
    ],
)
def test_products_of_functions_that_are_differentiable_once(f, x):
    A, J = tj.JacobianOperator(f, x), tj.jacobian(f, x, ravel=True)
    v, u = rand(A.shape[1]), rand(A.shape[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.TorchjacWarning)
        assert_close(A @ v, J @ v)
        assert_close(A.T @ u, J.T @ u)
        assert tj.check_jacobian(f, (x,), tj.jacobian(f, x))


def test_a_wrong_forward_formula_is_an_error():
    wrong = tj.JacobianOperator(WrongForward.apply, rand(3))
    with (
        pytest.warns(tj.TorchjacWarning, match="by forward mode from now on"),
        pytest.raises(tj.DerivativeMismatchError, match=r"u\.\(J v\) is"),
    ):
        wrong @ rand(3)


def test_random_numbers_are_drawn_once():
    x = torch.ones(100, dtype=torch.float64)
    A = tj.JacobianOperator(lambda x: F.dropout(x, 0.5), x)
    state = torch.get_rng_state()
    kept = A @ x
    assert torch.equal(kept, A.diagonal())
    assert torch.equal(kept, A.T @ x)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_error_of_f_is_raised_as_it_is():
    def f(x):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        tj.JacobianOperator(f, rand(2))


# ---- SciPy


def test_scipy_solves_least_squares_with_it():
    from scipy.sparse.linalg import lsqr, svds

    x = rand(30, dtype=torch.float64)
    A = tj.plan_jacobian(tridiagonal, x).operator(x)
    J, b = dense_jacobian(tridiagonal, (x,)).numpy(), rand(30).numpy()
    S = A.to_scipy()
    np.testing.assert_allclose(J @ lsqr(S, b, atol=1e-14, btol=1e-14)[0], b, atol=1e-8)
    np.testing.assert_allclose(svds(S, 1)[1], np.linalg.svd(J)[1][:1])
    np.testing.assert_allclose(S.matmat(np.eye(30)), J)
    np.testing.assert_allclose(S @ (b + 2j * b), (1 + 2j) * (J @ b))
    np.testing.assert_allclose(S.H @ b, J.T @ b)
