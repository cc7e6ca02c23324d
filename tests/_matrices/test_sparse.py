"""SparseMatrix: what a dense matrix does, in values space, to every order of derivative."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close, dense_jacobian
from torch.autograd import gradcheck, gradgradcheck

import torchjac as tj
from torchjac import SparseMatrix, SparsityPattern

needs_a_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))),
    reason="torch.compile needs a C++ compiler, and none was found",
)


def rand(*shape, grad=False):
    return torch.rand(*shape, dtype=torch.float64, requires_grad=grad)


def pattern_of(m, n, seed=0, density=0.4):
    return SparsityPattern.from_dense(np.random.default_rng(seed).random((m, n)) < density)


def matrix_of(m, n, seed=0, grad=False):
    pattern = pattern_of(m, n, seed)
    return SparseMatrix(pattern, rand(pattern.nnz, grad=grad))


@st.composite
def matrices(draw, rows=None):
    m = draw(st.integers(0, 8)) if rows is None else rows
    pattern = pattern_of(m, draw(st.integers(0, 8)), draw(st.integers(0, 1000)), draw(st.sampled_from([0.1, 0.4, 1])))
    return SparseMatrix(pattern, rand(pattern.nnz) - 0.5)


def reference(matrix):
    dense = matrix.values.new_zeros(matrix.shape)
    dense[matrix.pattern.to_dense()] = matrix.values
    return dense


@given(matrices(), st.integers(0, 3))
def test_products_are_those_of_the_dense_matrix(matrix, k):
    (m, n), dense = matrix.shape, reference(matrix)
    v, X, u, U = rand(n), rand(n, k), rand(m), rand(k, m)
    assert_close(matrix @ v, dense @ v)
    assert_close(matrix @ X, dense @ X)
    assert_close(u @ matrix, u @ dense)
    assert_close(U @ matrix, U @ dense)
    assert_close(matrix.T @ u, dense.T @ u)


@given(matrices())
def test_other_forms_are_those_of_the_dense_matrix(matrix):
    dense = reference(matrix)
    assert torch.equal(matrix.to_dense(), dense)
    assert torch.equal(matrix.T.to_dense(), dense.T)
    assert torch.equal(matrix.T.T.to_dense(), dense)
    assert torch.equal(matrix.diagonal(), dense.diagonal())
    assert torch.equal((-matrix).to_dense(), -dense)
    assert torch.equal((2 * matrix * torch.tensor(0.5)).to_dense(), dense)
    assert torch.equal((np.float64(2) * (torch.tensor(0.5) * matrix)).to_dense(), dense)
    assert np.array_equal(matrix.to_scipy().toarray(), dense.numpy())
    assert_close(matrix.gram().to_dense(), dense.T @ dense)


@pytest.mark.parametrize("layout", [torch.sparse_bsr, torch.sparse_bsc], ids=str)
@pytest.mark.parametrize("blocksize", [(1, 1), (2, 3), (6, 1), (6, 12)], ids=str)
@pytest.mark.parametrize("shape", [(6, 12), (0, 12), (6, 0)], ids=str)
def test_blocks_of_any_size_that_divides_the_shape(layout, blocksize, shape):
    matrix = matrix_of(*shape, grad=True)
    got = matrix.to_torch(layout, blocksize)
    assert (got.layout, got.values().shape[1:]) == (layout, blocksize)
    assert torch.equal(got.to_dense(), matrix.to_dense())
    weights = torch.rand_like(got.values())
    (mine,) = torch.autograd.grad((got.values() * weights).sum(), matrix.values)
    other = got.detach().clone()
    other.values().copy_(weights)
    assert torch.equal(mine, other.to_dense()[matrix.pattern.to_dense()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64], ids=str)
@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (0, 4), (4, 0), (1, 1)], ids=str)
def test_products_of_numbers_alone_are_those_with_a_graph(dtype, shape):
    pattern = pattern_of(*shape)
    values = torch.randint(-4, 5, (pattern.nnz,)).to(dtype)
    with_graph = SparseMatrix(pattern, values.clone().requires_grad_(dtype.is_floating_point))
    matrix = SparseMatrix(pattern, values)
    for size in [(shape[1],), (shape[1], 3)]:
        x = torch.randint(-4, 5, size).to(dtype)
        assert torch.equal(matrix @ x, (with_graph @ x).detach())
        assert not (matrix @ x).requires_grad
    for size in [(shape[0],), (3, shape[0])]:
        x = torch.randint(-4, 5, size).to(dtype)
        assert torch.equal(x @ matrix, (x @ with_graph).detach())


def test_who_differentiates_batches_or_traces_gets_products_in_values_space():
    matrix, x = matrix_of(5, 7), rand(7)
    dense = matrix.to_dense()
    assert_close(torch.func.jacrev(matrix.matmul)(x), dense)
    assert_close(torch.func.jacfwd(matrix.matmul)(x), dense)
    assert_close(torch.vmap(matrix.matmul)(x[None]), (dense @ x)[None])
    with torch.autograd.forward_ad.dual_level():
        dual = matrix @ torch.autograd.forward_ad.make_dual(x, x)
        assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, dense @ x)
    graph = torch.fx.experimental.proxy_tensor.make_fx(lambda x: matrix.matmul(x))(x)
    assert_close(graph(2 * x), dense @ (2 * x))


@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc], ids=str)
def test_every_layout_of_torch(layout):
    matrix = matrix_of(4, 6)
    got = matrix.to_torch(layout)
    assert got.layout is layout
    assert torch.equal(got if layout is torch.strided else got.to_dense(), reference(matrix))


@given(st.data())
def test_a_product_of_sparse_matrices_is_sparse(data):
    left = data.draw(matrices())
    right = data.draw(matrices(rows=left.shape[1]))
    product = left @ right
    assert isinstance(product, SparseMatrix)
    assert_close(product.to_dense(), reference(left) @ reference(right))
    ones = left.pattern.to_dense().double() @ right.pattern.to_dense().double()
    assert torch.equal(product.pattern.to_dense(), ones > 0)


@given(matrices())
def test_the_gram_with_weights_is_a_gauss_newton_matrix(matrix):
    m, dense = matrix.shape[0], matrix.to_dense()
    weights, W = rand(m), matrix_of(m, m, 1)
    assert_close(matrix.gram(weights).to_dense(), dense.T @ torch.diag(weights) @ dense)
    assert_close(matrix.gram(W).to_dense(), dense.T @ W.to_dense() @ dense)
    assert matrix.gram().pattern == matrix.pattern.gram() == matrix.gram(weights).pattern
    assert matrix.gram(W).pattern == matrix.pattern.gram(W.pattern)


def test_the_places_of_a_weighted_gram_are_found_once():
    J, W = matrix_of(6, 4), matrix_of(6, 6, 1)
    again = J.with_values(rand(J.nnz)).gram(W.with_values(rand(W.nnz)))
    assert again._at is J.gram(W)._at
    assert J.gram(rand(6))._at is J.gram()._at


def test_weights_of_the_wrong_size_are_refused():
    with pytest.raises(tj.InputError, match=r"weights of shape \(4,\) for a 6 x 4 matrix"):
        matrix_of(6, 4).gram(rand(4))
    with pytest.raises(tj.InputError, match="4 rows in the second"):
        matrix_of(6, 4).gram(matrix_of(4, 4))
    with pytest.raises(tj.PatternError, match="for a pattern of 6 rows"):
        pattern_of(6, 4).gram(pattern_of(4, 4))


def test_the_gradient_of_a_gauss_newton_matrix():
    J, W = matrix_of(5, 3, grad=True), matrix_of(5, 5, 1, grad=True)
    assert gradcheck(lambda v, w: J.with_values(v).gram(W.with_values(w)).values, (J.values, W.values))
    assert gradcheck(lambda v, w: J.with_values(v).gram(w).values, (J.values, rand(5, grad=True)))


def test_the_gram_keeps_entries_that_cancel_and_is_symmetric():
    matrix = SparseMatrix(SparsityPattern.full((2, 2)), torch.tensor([1.0, 1.0, 1.0, -1.0]))
    assert matrix.gram().nnz == 4
    assert matrix.gram().to_dense().tolist() == [[2, 0], [0, 2]]


def test_indices_are_made_once():
    matrix = matrix_of(5, 4)
    again = matrix.with_values(rand(matrix.nnz))
    assert matrix.gram()._at is again.gram()._at
    assert matrix.T._at is again.T._at
    assert (matrix @ matrix.T)._at is (again @ again.T)._at
    assert SparseMatrix(matrix.pattern, matrix.values)._at is matrix._at


DIFFERENTIABLE = {
    "vector": lambda M, x: M @ x[:, 0],
    "matrix": lambda M, x: M @ x,
    "from the left": lambda M, x: x.T @ M.T,
    "transposed": lambda M, x: M.T @ (M @ x),
    "gram": lambda M, x: M.gram() @ x,
    "sparse times sparse": lambda M, x: (M.T @ M).values,
    "diagonal": lambda M, x: M.gram().diagonal() * x[:, 0],
    "dense": lambda M, x: M.to_dense() @ x,
    "scaled": lambda M, x: (-M * x.sum()).values,
}
EVERY_KIND = pytest.mark.parametrize("kind", DIFFERENTIABLE)


@EVERY_KIND
def test_gradients_of_gradients(kind):
    matrix = matrix_of(4, 3, grad=True)

    def f(values, x):
        return DIFFERENTIABLE[kind](matrix.with_values(values), x)

    inputs = (matrix.values, rand(3, 2, grad=True))
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)


@EVERY_KIND
def test_vmap_over_values(kind):
    matrix, x = matrix_of(4, 3), rand(3, 2)

    def f(values):
        return DIFFERENTIABLE[kind](matrix.with_values(values), x)

    batch = rand(5, matrix.nnz)
    assert_close(torch.func.vmap(f)(batch), torch.stack([f(values) for values in batch]))


COMPILED = {
    "vector": lambda M, x: M.matmul(x[:, 0]),
    "matrix": lambda M, x: M.T.matmul(M.matmul(x)),
    "gram": lambda M, x: M.gram().matmul(x),
    "sparse times sparse": lambda M, x: M.T.matmul(M).values,
    "scaled": lambda M, x: (-M * 2.0).to_dense(),
}


def test_rows_of_one_length_and_of_several_are_summed_alike():
    for lengths in ([2, 2, 2], [2, 1, 2], [0, 0, 0]):
        pattern = SparsityPattern.from_csr([0, *np.cumsum(lengths)], [j for k in lengths for j in range(k)], (3, 2))
        matrix, x = SparseMatrix(pattern, rand(pattern.nnz)), rand(2, 3)
        assert_close(matrix @ x, reference(matrix) @ x)
        assert_close(matrix @ x[:, 0], reference(matrix) @ x[:, 0])


@pytest.mark.cuda
@EVERY_KIND
def test_on_a_gpu(kind):
    matrix, x = matrix_of(4, 3), rand(3, 2)
    there = SparseMatrix(matrix.pattern, matrix.values.cuda())
    assert there._at.rows.is_cuda
    assert_close(DIFFERENTIABLE[kind](there, x.cuda()).cpu(), DIFFERENTIABLE[kind](matrix, x))


@needs_a_compiler
@pytest.mark.parametrize("kind", COMPILED)
def test_compiled_without_a_graph_break(kind):
    matrix, x = matrix_of(4, 3), rand(3, 2)
    COMPILED[kind](matrix, x)  # finds the places, once

    def f(values, x):
        return COMPILED[kind](matrix.with_values(values), x)

    torch.compiler.reset()  # or the cases before this one count as recompilations of f
    compiled = torch.compile(f, fullgraph=True)
    assert_close(compiled(matrix.values, x), f(matrix.values, x))
    values = rand(matrix.nnz, grad=True)
    (got,) = torch.autograd.grad(compiled(values, x).sum(), values)
    (expected,) = torch.autograd.grad(f(values, x).sum(), values)
    assert_close(got, expected)


def test_at_beside_a_tensor_is_right_under_compile_and_breaks_the_graph():
    """When the second half fails, Dynamo has learned ``@``: SparseMatrix.matmul's docstring can forget about it."""
    square, x = matrix_of(4, 4), rand(4)
    compiled = torch.compile(lambda x: (square @ x, x @ square), backend="eager")
    for got, expected in zip(compiled(x), (square @ x, x @ square), strict=True):
        assert torch.equal(got, expected)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(lambda x: square @ x, backend="eager", fullgraph=True)(x)


def test_a_plan_gives_the_matrix():
    def f(x):
        return x * x.roll(1) + x.roll(-1).sin()

    x, v = rand(9, grad=True), rand(9)
    plan = tj.plan_jacobian(f, x)
    J, dense = plan.matrix(x), dense_jacobian(f, (x,), create_graph=True)
    assert J.pattern is plan.pattern
    assert (J.shape, J.nnz, J.dtype, J.device) == ((9, 9), 27, torch.float64, x.device)
    assert_close(J @ v, dense @ v)
    (got,) = torch.autograd.grad((J.gram() @ v).square().sum(), x)
    (expected,) = torch.autograd.grad((dense.T @ (dense @ v)).square().sum(), x)
    assert_close(got, expected)
    assert plan.matrix(x)._at is J._at


def test_dtypes_promote():
    assert (matrix_of(3, 3) @ torch.rand(3)).dtype is torch.float64


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda M: M @ rand(4),
            tj.InputError,
            r"4 x 3 matrix times a tensor of shape \(4,\)\n  expected: shape \(3,\)",
        ),
        (lambda M: rand(3) @ M, tj.InputError, r"shape \(3,\) times a 4 x 3 matrix"),
        (lambda M: M @ M, tj.InputError, "4 x 3 matrix times a 4 x 3 matrix\n  expected: 3 rows"),
        (lambda M: M * rand(3), tj.InputError, "expected: a number(.*\n)*.*J @ x"),
        (lambda M: M.to_torch(torch.sparse_bsr), tj.OptionError, "blocksize=None for a"),
        (lambda M: M.to_torch(torch.sparse_bsc, (1, 1000)), tj.OptionError, r"blocksize=\(1, 1000\) for a"),
        (lambda M: M.to_torch(torch.sparse_csr, (1, 1)), tj.OptionError, r"sparse_csr, blocksize=\(1, 1\)"),
        (lambda M: M.with_values(M.values.bfloat16()).to_scipy(), tj.InputError, r"bfloat16(.*\n)*.*float\(\)"),
        (lambda M: SparseMatrix(M.pattern, rand(1)), tj.InputError, r"values of shape \(1,\) for a pattern"),
        (lambda M: M @ "x", TypeError, "unsupported operand"),
        (lambda M: M * "x", TypeError, "multiply|unsupported operand"),
    ],
)
def test_what_does_not_fit_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call(matrix_of(4, 3))
