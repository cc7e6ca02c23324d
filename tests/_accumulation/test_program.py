"""Programs for the nonzeros: the values of the dense Jacobian, read in both directions, or a refusal that says why."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from accumulation_cases import DIRECTIONS, dense, program
from cases import CASES, Case
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import line_of
from oracles import assert_close, dense_jacobian
from torch.nn import functional as F

from torchjac import SparsityPattern
from torchjac._accumulation.emission import MissingEntriesError
from torchjac._accumulation.errors import CannotAccumulateError
from torchjac._accumulation.program import build
from torchjac._detection.detect import detect
from torchjac._function.flat import FlatFunction
from torchjac.cli.demo.problems import brusselator, burgers, generated_bundle, mesh_assembly

# (case, direction) that have no second reading, with the op that ends it
REFUSED = {
    ("without setup_context", "forward"): "f",
    ("without setup_context", "reverse"): "f",
    ("straight through", "forward"): "f",
    ("straight through", "reverse"): "f",
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case_has_the_values_of_the_dense_jacobian(case: Case, direction):
    ends = REFUSED.get((case.name, direction))
    if ends is not None:
        with pytest.raises(CannotAccumulateError) as refusal:
            program(case.f, case.args, direction, case.argnums)
        assert refusal.value.op == ends
        return
    made, pattern = program(case.f, case.args, direction, case.argnums)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = dense_jacobian(case.f, case.args, case.argnums)
    assert_close(dense(made(case.args), pattern), expected)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("f", "shape"),
    [(brusselator, (2, 5, 4)), (brusselator, (2, 2, 2)), (mesh_assembly(4), (16,))],
    ids=["brusselator", "neighbours that coincide", "mesh"],
)
def test_a_program_holds_for_every_x(f, shape, direction):
    generator = torch.Generator().manual_seed(0)
    x, other = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    made, pattern = program(f, (x,), direction)
    assert_close(dense(made((other,)), pattern), dense_jacobian(f, (other,)))


def test_a_stencil_assembled_from_its_cells_has_a_slot_for_each_neighbour():
    def assembled(u):
        a, b = u[1:, 1:] * u[:-1, :-1], u[1:, :-1] / (1 + u[:-1, 1:])
        pad = torch.nn.functional.pad
        return pad(a, (0, 1, 0, 1)) + pad(a, (1, 0, 1, 0)) + pad(b, (1, 0, 0, 1)) + pad(b, (0, 1, 1, 0))

    u = torch.rand(8, 7, dtype=torch.float64)
    made, pattern = program(assembled, (u,))
    assert made.slots == (5,)  # itself and four neighbours across corners
    assert "aten.where.self" not in {str(node.target) for node in made.graph.graph.nodes}
    assert_close(dense(made((u,)), pattern), dense_jacobian(assembled, (u,)))


def test_a_bundle_adjustment_is_read_backward_with_two_slots():
    b = generated_bundle(8, 40, 120)
    args = (b.cameras, b.points)
    made, pattern = program(b.residuals, args, "reverse", (0, 1))
    assert_close(dense(made(args), pattern), dense_jacobian(b.residuals, args, (0, 1)), 1e-11)


def test_values_of_a_stencil_come_in_order_without_a_gather():
    x = torch.rand(2, 64, 64, dtype=torch.float64)
    made, pattern = program(brusselator, (x,))
    assert made.slots == (6,)
    assert made.regular > 0.95
    assert_close(dense(made((x,)), pattern), dense(program(brusselator, (x,), "reverse")[0]((x,)), pattern))


@pytest.mark.parametrize("ends", [(1, 1), (0, 2), (2, 0)])
def test_a_stencil_that_ends_is_cut_out_without_a_gather(ends):
    def f(u):
        padded = torch.nn.functional.pad(u, ends)
        return padded[:-2] * padded[1:-1] + padded[2:] ** 2

    x = torch.rand(40, dtype=torch.float64)
    made, pattern = program(f, (x,))
    assert made.regular == 1
    assert not any("index" in str(node.target) for node in made.graph.graph.nodes)
    assert_close(dense(made((x,)), pattern), dense_jacobian(f, (x,)))


def test_an_elements_block_comes_in_order_without_a_gather():
    x = torch.rand(100, 3, dtype=torch.float64)
    made, pattern = program(lambda x: x.prod(1, keepdim=True) * x.exp(), (x,))
    assert made.regular == 1
    assert_close(dense(made((x,)), pattern), dense_jacobian(lambda x: x.prod(1, keepdim=True) * x.exp(), (x,)))


def test_constant_entries_are_numbers_of_the_program():
    made, _ = program(lambda x: 3 * x.roll(1) - x / 2, (torch.rand(50, dtype=torch.float64),))
    assert not any(node.all_input_nodes for node in made.graph.graph.nodes if "input" in str(node.all_input_nodes))


def test_what_is_shared_is_computed_once():
    made, _ = program(lambda x: torch.stack([x.sin() * x.cos(), x.cos() * x.sin()]), (torch.rand(9),))
    targets = [str(node.target) for node in made.graph.graph.nodes]
    assert targets.count("aten.sin.default") == targets.count("aten.cos.default") == 1


def test_entries_that_add_up_are_summed_once_in_the_values():
    index = torch.tensor([0, 1, 1, 0, 2, 2])

    def f(x):
        return torch.zeros(3, dtype=x.dtype).index_add(0, index, x[index] ** 2) * x.sum()

    x = torch.rand(4, dtype=torch.float64)
    for direction in DIRECTIONS:
        made, pattern = program(f, (x,), direction)
        assert_close(dense(made((x,)), pattern), dense_jacobian(f, (x,)))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("f", [lambda x: x * x.exp(), lambda x: x[1:] ** 2, lambda x: x.sum() * torch.ones(0, 2)])
@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_single_inputs_and_no_outputs(f, shape, direction):
    x = torch.rand(shape, dtype=torch.float32)
    made, pattern = program(f, (x,), direction)
    assert made((x,)).dtype == torch.float32
    assert_close(dense(made((x,)), pattern), dense_jacobian(f, (x,)))


def test_parameters_are_followed_and_get_gradients():
    layer = torch.nn.Linear(3, 2).double()
    x = torch.rand(70, 3, dtype=torch.float64)
    made, pattern = program(lambda x: layer(x).tanh(), (x,))
    with torch.no_grad():
        layer.weight.mul_(2)
    J = dense(made((x,)), pattern)
    assert_close(J, dense_jacobian(lambda x: layer(x).tanh(), (x,)))
    (got,) = torch.autograd.grad(made((x,)).square().sum(), layer.weight)
    twice = dense_jacobian(lambda x: layer(x).tanh(), (x.requires_grad_(),), create_graph=True)
    (expected,) = torch.autograd.grad(twice.square().sum(), layer.weight)
    assert_close(got, expected, 1e-10)


@pytest.mark.parametrize("f", [brusselator, burgers], ids=["brusselator", "burgers"])
def test_gradients_through_the_values(f):
    shape = (2, 4, 5) if f is brusselator else (9,)
    x = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    made, pattern = program(f, (x,))
    weights = torch.randn(pattern.shape, dtype=torch.float64)
    (got,) = torch.autograd.grad((dense(made((x,)), pattern) * weights).square().sum(), x)
    (expected,) = torch.autograd.grad((dense_jacobian(f, (x,), create_graph=True) * weights).square().sum(), x)
    assert_close(got, expected, 1e-10)


def test_a_batch_of_inputs():
    x = torch.rand(3, 2, 5, 6, dtype=torch.float64)
    made, pattern = program(brusselator, (x[0],))
    batched = torch.vmap(lambda x: made((x,)))(x)
    for values, one in zip(batched, x, strict=True):
        assert_close(dense(values, pattern), dense_jacobian(brusselator, (one,)))


def test_a_refusal_names_the_op_and_the_line():
    def f(x):
        y = x * 2
        return y.cumprod(0)

    with pytest.raises(CannotAccumulateError) as refusal:
        program(f, (torch.rand(4),))
    assert str(refusal.value) == f"cumprod at {line_of(f, 2)}: its sums are not taken apart"


@pytest.mark.parametrize(
    ("f", "why"),
    [
        (lambda x: x * x[x.argsort()], "index"),
        (lambda x: x * torch.rand(4), "random numbers"),
        (lambda x: x * 2 if x.sum() > 0 else x, "values"),
        (lambda x: x.clone().index_put((torch.tensor([0, 0]),), x[1:3]), "more than once"),
        (lambda x: x.cumprod(0), "sums are not taken apart"),
        (lambda x: (x[:, None] * x).sum(), "coefficients"),
    ],
)
def test_what_has_no_second_reading_is_refused(f, why):
    with pytest.raises(CannotAccumulateError, match=why):
        program(f, (torch.rand(4),), limit=10)


def test_entries_outside_the_pattern_are_named():
    x = torch.rand(4, dtype=torch.float64)
    function = FlatFunction(lambda x: x * x.roll(1), (x,))
    detect(function, (x,))
    diagonal = SparsityPattern.from_coo(np.arange(4), np.arange(4), (4, 4))
    with pytest.raises(MissingEntriesError) as missing:
        build(function, (x,), diagonal, "forward", 100)
    assert (missing.value.row, missing.value.column) == (0, 3)


def test_a_tall_result_that_is_cut_across_its_rows():
    b = generated_bundle(8, 40, 120)
    args = (b.cameras, b.points)

    def some(cameras, points):
        return b.residuals(cameras, points).reshape(-1)[:151]

    for direction in DIRECTIONS:
        made, pattern = program(some, args, direction, (0, 1))
        assert_close(dense(made(args), pattern), dense_jacobian(some, args, (0, 1)), 1e-11)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "f",
    [
        lambda x: torch.view_as_real(torch.complex(x, x.roll(1)) ** 2),
        lambda x: (torch.view_as_complex(x.reshape(-1, 2)) * (2 + 1j)).conj().imag,
        lambda x: torch.complex(x, 2 * x).abs() * x,
        lambda x: (x * torch.exp(1j * x)).real + torch.view_as_complex(x.reshape(-1, 2)).angle().repeat(2),
        lambda x: (torch.view_as_complex(x.reshape(-1, 2)).roll(1).conj() * 1j).real,
        lambda x: (torch.complex(_gathered(x), x).conj() ** 2).imag,
        lambda x: (torch.view_as_complex(_gathered(x).reshape(-1, 2)) * torch.exp(1j * x[::2])).real,
        lambda x: torch.view_as_real(torch.view_as_complex(_gathered(x).reshape(-1, 2)).roll(1) * (1 - 2j)),
    ],
)
def test_complex_numbers_inside(f, direction):
    x = torch.rand(160, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    made, pattern = program(f, (x,), direction)
    assert_close(dense(made((x,)), pattern), dense_jacobian(f, (x,)), 1e-11)


def _gathered(x):
    """Irregular sums: some elements have one input, some many, some none."""
    return torch.zeros_like(x).index_add(0, torch.arange(x.numel()) ** 2 % 97, x * x.roll(3))


def test_integer_arguments_are_inputs_of_the_program_too():
    x, index = torch.rand(4, dtype=torch.float64), torch.tensor([3, 0, 0])
    made, pattern = program(lambda x, i: x[i] ** 2, (x, index))
    assert_close(dense(made((x, index)), pattern), dense_jacobian(lambda x, i: x[i] ** 2, (x, index)))


# ---- random programs

ROWS, COLUMNS = 70, 3  # tall, so that programs are written by columns too
KERNEL = torch.randn(3, 3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
INDEX = torch.randint(ROWS, (ROWS,), generator=torch.Generator().manual_seed(0))

STEPS = {
    "roll": lambda x, k: x.roll(k, 0),
    "flip": lambda x, k: x.flip(0),
    "slice": lambda x, k: torch.cat([x[k:], 2 * x[:k]]),
    "pad": lambda x, k: torch.nn.functional.pad(x[k:], (0, 0, 0, k)),
    "swap columns": lambda x, k: x[:, [1, 2, 0]],
    "sine": lambda x, k: x.sin(),
    "square": lambda x, k: x * x,
    "product with a roll": lambda x, k: x * x.roll(k, 0),
    "ratio": lambda x, k: x / (2 + x.roll(k, 1) ** 2),
    "index_add": lambda x, k: torch.zeros_like(x).index_add(0, INDEX.roll(k), x),
    "gather": lambda x, k: x[INDEX.roll(k)],
    "write a slice": lambda x, k: _written(x, k),
    "where": lambda x, k: torch.where(x > 0, x * 2, x.roll(k, 0)),
    "row sums": lambda x, k: x - x.sum(1, keepdim=True),
    "means": lambda x, k: x * x.mean(1, keepdim=True),
    "rotate": lambda x, k: x @ torch.linspace(-1, 1, 9, dtype=x.dtype).reshape(3, 3),
    "cross": lambda x, k: torch.linalg.cross(x, x.roll(k, 0) + 1),
    "clamp": lambda x, k: x.clamp(-0.5, 0.5),
    "zero times": lambda x, k: x + 0 * x.roll(k, 0),
    "transposed": lambda x, k: x.T.reshape(ROWS, COLUMNS),
    "cumulative sums": lambda x, k: x.cumsum(1),
    "convolution": lambda x, k: F.conv1d(x.T[None], KERNEL[..., :k], padding=k // 2)[0, :, :ROWS].T,
    "averages": lambda x, k: F.avg_pool1d(x.T, 2 * k - 1, 1, k - 1).T,
    "maxima": lambda x, k: F.max_pool1d(x.T, 2 * k - 1, 1, k - 1).T,
    "largest": lambda x, k: x - x.max(1, keepdim=True).values,
    "solve": lambda x, k: torch.linalg.solve(KERNEL[:, :, k] + 4 * torch.eye(3, dtype=x.dtype), x.T).T,
    "triangular": lambda x, k: torch.linalg.solve_triangular(2 + KERNEL[:, :, k].tril(), x.T, upper=False).T,
    "frequencies": lambda x, k: torch.fft.fft(x, dim=1).imag,
    "write in steps": lambda x, k: _stepped(x, k),
}


def _written(x, k):
    y = x.clone()
    y[k : k + 5] = x[:5] ** 2
    y[:, 1] += x[:, 0]
    return y


def _stepped(x, k):
    y = x.clone()
    y[::k, 1:] = x[::k, :2] * x[::k, 1:]
    y.T[0, k] = 0
    return y


def test_what_was_taken_apart_by_columns_is_viewed_in_another_shape():
    def f(x):
        return STEPS["averages"](STEPS["cross"](x, 2), 3)

    x = torch.rand(ROWS, COLUMNS, dtype=torch.float64)
    made, pattern = program(f, (x,))
    assert_close(dense(made((x,)), pattern), dense_jacobian(f, (x,)), 1e-11)


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(1, 4)), min_size=1, max_size=4),
    direction=st.sampled_from(DIRECTIONS),
)
def test_random_programs(steps, direction):
    def f(x):
        for name, k in steps:
            x = STEPS[name](x, k)
        return x

    x = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    made, pattern = program(f, (x,), direction)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = torch.func.jvp(f, (x,), (v,))[1].reshape(-1)
    assert_close(dense(made((x,)), pattern) @ v.reshape(-1), expected, 1e-10)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_no_more_numbers_are_written_than_may_be(direction):
    x = torch.rand(7, dtype=torch.float64)
    function = FlatFunction(lambda x: x.sin() * x.roll(1), (x,), 0)
    pattern = detect(function, (x,))
    numbers = build(function, (x,), pattern, direction, 10**7).numbers
    assert numbers >= pattern.nnz
    assert build(function, (x,), pattern, direction, 10**7, most=numbers).numbers == numbers
    with pytest.raises(CannotAccumulateError, match=f"more than {numbers - 1} numbers are written"):
        build(function, (x,), pattern, direction, 10**7, most=numbers - 1)


def test_zeros_of_a_shape_are_constants_kept_once():
    def f(x):
        out = torch.zeros_like(x)
        for k in range(4):
            out = out + torch.slice_scatter(torch.zeros_like(x * x), x[k:] * (k + 1), 0, k)
        return out

    x = torch.rand(9, dtype=torch.float64)
    made, pattern = program(f, (x,))
    assert_close(dense(made((x,)), pattern), dense_jacobian(f, (x,)))
    assert "aten.zeros_like.default" not in {str(node.target) for node in made.graph.graph.nodes}
    assert sum(t.shape == x.shape for t in made.graph.buffers()) <= 1
