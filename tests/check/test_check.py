"""check_jacobian: right Jacobians in every form pass, wrong ones are named with their cause."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sps
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import dense_jacobian
from scipy.sparse.linalg import aslinearoperator
from torch.func import jacfwd, jacrev

import torchjac as tj

torch.manual_seed(0)
X = torch.rand(2, 3, dtype=torch.float64) + 0.5
WEIGHT = torch.rand(3, 4, dtype=torch.float64)


def layer(x):  # (2, 3) -> (2, 4)
    return torch.tanh(x @ WEIGHT)


def square(x):  # (2, 3) -> (2, 3)
    return x * x.sum(0) ** 2 + x.roll(1, 1)


def two(x, y):  # {"a": (2, 4), "b": ()}
    return {"a": layer(x) * y[0], "b": (y * y).sum() + x[0, 0]}


def matrix(f=layer, x=X):
    return dense_jacobian(f, (x,))


def bsr(M):
    return M.to_sparse_bsr((2, 3))


def bsc(M):
    return M.to_sparse_bsc((2, 3))


FORMS = {
    "jacrev": lambda M: M.reshape(2, 4, 2, 3),
    "matrix": lambda M: M,
    "NumPy": lambda M: M.numpy(),
    "NumPy of four dimensions": lambda M: M.numpy().reshape(2, 4, 2, 3),
    "COO": lambda M: M.to_sparse_coo(),
    "COO in two parts": lambda M: (
        torch.sparse_coo_tensor([[0, 0], [0, 0]], [0.5, 0.5], (8, 6)).double()
        + (
            M - torch.zeros(8, 6).double().index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(1.0).double())
        ).to_sparse()
    ),
    "CSR": lambda M: M.to_sparse_csr(),
    "CSC": lambda M: M.to_sparse_csc(),
    "BSR": bsr,
    "BSC": bsc,
    "SciPy CSR": lambda M: sps.csr_array(M.numpy()),
    "SciPy COO matrix": lambda M: sps.coo_matrix(M.numpy()),
    "SciPy operator": lambda M: aslinearoperator(M.numpy()),
    "SparseMatrix": lambda M: tj.SparseMatrix(tj.SparsityPattern.from_dense(M), M[M != 0]),
}
WAYS = pytest.mark.parametrize("form", FORMS)


@WAYS
def test_a_right_jacobian_in_any_form(form):
    report = tj.check_jacobian(layer, X, FORMS[form](matrix()))
    assert report
    assert report.error < 1e-12
    assert "right, 8 x 6" in repr(report)


@WAYS
def test_a_wrong_entry_in_any_form(form):
    M = matrix()
    M[5, 4] *= 1.01
    report = tj.check_jacobian(layer, X, FORMS[form](M), raises=False)
    assert not report
    assert (report.rows, report.columns) == (1, 1)
    (entry,) = report.entries
    assert (entry.output, entry.input, entry.row, entry.column) == ("f(...)[1, 1]", "args[0][1, 1]", 5, 4)
    assert entry.got == pytest.approx(1.01 * entry.expected)


def test_trees_of_inputs_and_outputs():
    y = torch.rand(2, dtype=torch.float64)
    J = jacrev(two, (0, 1))(X, y)
    assert tj.check_jacobian(two, (X, y), J, argnums=(0, 1))
    assert tj.check_jacobian(two, (X, y), {name: list(blocks) for name, blocks in J.items()}, argnums=(0, 1))
    assert tj.check_jacobian(
        two, (X, y), tj.jacobian(two, X, y, argnums=(0, 1), layout=torch.sparse_csr), argnums=(0, 1)
    )
    assert tj.check_jacobian(two, (X, y), tj.jacobian(two, X, y, argnums=(0, 1), ravel=True), argnums=(0, 1))
    assert tj.check_jacobian(two, (X, y), tj.JacobianOperator(two, X, y, argnums=(0, 1)), argnums=(0, 1))
    J["b"][1][1] += 0.5
    report = tj.check_jacobian(two, (X, y), J, argnums=(0, 1), raises=False)
    assert [(e.output, e.input) for e in report.entries] == [("f(...)['b']", "args[1][1]")]


def test_another_nesting_is_refused():
    y = torch.rand(2, dtype=torch.float64)
    J = jacrev(two, (0, 1))(X, y)
    with pytest.raises(tj.InputError, match=r"expected: {'a': \(\*, \*\), 'b': \(\*, \*\)}, or one \(9, 8\) matrix"):
        tj.check_jacobian(two, (X, y), (J["a"], J["b"]), argnums=(0, 1))


def test_float32_and_lower_precision():
    x = X.float()
    f32 = lambda x: torch.tanh(x @ WEIGHT.float())  # noqa: E731  # the same function twice
    assert tj.check_jacobian(f32, x, jacfwd(f32)(x))
    assert tj.check_jacobian(layer, X, matrix().float())
    assert not tj.check_jacobian(layer, X, matrix() * 1.001, raises=False)
    assert tj.check_jacobian(layer, X, matrix() * 1.001, tolerance=0.01)
    half = lambda x: (x.bfloat16() @ WEIGHT.bfloat16()).float()  # noqa: E731  # the same function twice
    assert tj.check_jacobian(half, x, jacrev(half)(x))


def test_nan_is_wrong_where_the_derivative_is_finite():
    M = matrix()
    M[2, 1] = torch.nan
    report = tj.check_jacobian(layer, X, M, raises=False)
    assert (report.entries[0].row, report.entries[0].column) == (2, 1)


def test_an_infinite_derivative_does_not_hide_the_others():
    x = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)
    J = torch.diag(0.5 / x.sqrt())
    assert tj.check_jacobian(torch.sqrt, x, J)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 1), (1, 4)], ids=str)
def test_small_shapes(shape):
    weight = torch.rand(shape, dtype=torch.float64)
    x = torch.rand(shape[1], dtype=torch.float64)
    assert tj.check_jacobian(lambda x: weight @ x, x, weight)
    if weight.numel():
        assert not tj.check_jacobian(lambda x: weight @ x, x, weight + 1, raises=False)


# ---- causes


def no_chain():  # rows lack the derivative of tanh
    return torch.block_diag(WEIGHT.T, WEIGHT.T)


def with_zero(rows, columns):
    M = matrix()
    M[rows] = 0
    M[:, columns] = 0
    return M


def summed_over_batch():
    return matrix(square).reshape(2, 3, 2, 3).sum(0, keepdim=True).expand(2, 3, 2, 3)


CAUSES = {
    "sign": (layer, lambda: -matrix(), "the sign is flipped"),
    "factor": (layer, lambda: 3.5 * matrix(), r"every entry is 3\.5 times"),
    "mean": (layer, lambda: matrix() / 4, r"1/4 of what it should be: a mean over 4"),
    "sum": (layer, lambda: matrix() * 8, "8 times what it should be: a sum over 8"),
    "transposed": (square, lambda: matrix(square).T, "transposed"),
    "transposed operator": (square, lambda: tj.JacobianOperator(square, X).T, "transposed"),
    "chain": (layer, lambda: no_chain(), "each wrong row is a multiple of the right one"),
    "scale of inputs": (layer, lambda: matrix() * torch.arange(1, 7), "each wrong column is a multiple"),
    "detached": (layer, lambda: torch.zeros(8, 6), "every entry is 0: was the output detached"),
    "detached outputs": (layer, lambda: with_zero([1, 6], []), "the wrong rows are 0"),
    "detached inputs": (layer, lambda: with_zero([], [4]), "the wrong columns are 0"),
    "summed": (square, summed_over_batch, "summed over axis 0 of the output"),
    "Fortran outputs": (
        layer,
        lambda: matrix().reshape(2, 4, 6).transpose(0, 1).reshape(8, 6),
        "the outputs are ravelled column by column",
    ),
    "Fortran inputs": (
        layer,
        lambda: matrix().reshape(8, 2, 3).transpose(1, 2).reshape(8, 6),
        "the inputs are ravelled column by column",
    ),
    "Fortran both": (
        square,
        lambda: matrix(square).reshape(2, 3, 2, 3).permute(1, 0, 3, 2).reshape(6, 6),
        "the outputs and inputs are ravelled column by column",
    ),
    "rows swapped": (layer, lambda: matrix()[[0, 2, 1, 3, 4, 5, 6, 7]], "row 1 of J is row 2 of the Jacobian"),
    "columns swapped": (layer, lambda: matrix()[:, [0, 1, 5, 3, 4, 2]], "column 2 of J is column 5"),
    "pattern": (
        square,
        lambda: sps.csr_array((matrix(square) * torch.eye(6)).numpy()),
        "the sparsity pattern of J is too small",
    ),
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_is_named(name):
    f, made, cause = CAUSES[name]
    with pytest.raises(tj.DerivativeMismatchError, match=cause) as caught:
        tj.check_jacobian(f, X, made())
    report = caught.value.report
    assert not report
    assert report.entries
    assert f"likely cause: {report.cause}" in repr(report)
    exact = matrix(f)
    assert all(e.expected == pytest.approx(exact[e.row, e.column].item(), abs=1e-12) for e in report.entries)


def test_an_error_without_pattern_has_no_cause():
    report = tj.check_jacobian(layer, X, matrix() + torch.rand(8, 6), raises=False)
    assert (report.rows, report.columns, report.cause) == (8, 6, "")
    assert len(report.entries) == 5


@pytest.mark.parametrize(
    ("J", "why"),
    [
        (lambda: matrix().T, r"it is transposed: J\.T is right"),
        (lambda: jacrev(layer)(X).permute(2, 3, 0, 1), "it is transposed"),
        (lambda: jacrev(layer)(X).sum(2), r"axis 0 of the input, of size 2, is missing: a batch"),
        (lambda: jacrev(layer)(X).sum(0), r"axis 0 of the output, of size 2, is missing: a batch"),
        (lambda: torch.zeros(5, 5), "outputs come first"),
    ],
)
def test_a_wrong_shape_is_explained(J, why):
    with pytest.raises(tj.InputError, match=why):
        tj.check_jacobian(layer, X, J())


@pytest.mark.filterwarnings("ignore")  # newer versions of PyTorch have both, and there is nothing to say
def test_where_pytorch_has_one_product_only():
    x = torch.rand(4, 2, dtype=torch.float64)
    f = lambda x: torch.cdist(x, x + 1)  # noqa: E731  # one line
    J = dense_jacobian(f, (x,))
    assert tj.check_jacobian(f, x, J)
    J[9, 4] += 1
    report = tj.check_jacobian(f, x, J, raises=False)
    assert [(e.row, e.column) for e in report.entries] == [(9, 4)]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 10_000), st.booleans())
def test_any_wrong_entry_is_found(m, n, seed, sparse):
    rng = np.random.default_rng(seed)
    true, i, j = rng.normal(size=(m, n)) * (rng.random((m, n)) < 0.6), int(rng.integers(m)), int(rng.integers(n))
    weight, J = torch.from_numpy(true), true.copy()
    J[i, j] += rng.choice([-1, 1]) * 10 ** rng.uniform(-3, 1)
    claim = sps.csc_array(J) if sparse else J
    x = torch.ones(n, dtype=torch.float64)
    assert tj.check_jacobian(lambda x: weight @ x, x, true)
    report = tj.check_jacobian(lambda x: weight @ x, x, claim, raises=False)
    assert [(e.row, e.column) for e in report.entries] == [(i, j)]
    assert report.entries[0].expected == pytest.approx(true[i, j], abs=1e-9)


def test_a_large_sparse_one_takes_few_products():
    def f(x):
        return x * (torch.roll(x, 1) + torch.roll(x, -1))

    x = torch.rand(100_000, dtype=torch.float64)
    J = tj.jacobian(f, x, layout=torch.sparse_csr)
    assert tj.check_jacobian(f, x, J)
    J.values()[123_456] *= -1
    report = tj.check_jacobian(f, x, J, raises=False)
    assert (report.rows, report.columns, report.entries[0].row) == (1, 1, 123_456 // 3)
    J.values()[123_456] *= -1.00001
    assert tj.check_jacobian(f, x, J, raises=False).cause == ""


def test_gradients_are_left_alone():
    x = X.clone().requires_grad_()
    J = jacrev(layer)(x)
    assert tj.check_jacobian(layer, x, J)
    assert x.grad is None
