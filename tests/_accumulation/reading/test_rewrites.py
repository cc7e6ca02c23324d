"""Ops that are read as simpler ones: the values of the dense Jacobian in both directions, accumulated, not colored."""

from __future__ import annotations

import pytest
import torch
from accumulation_cases import DIRECTIONS, dense, program
from oracles import assert_close, dense_jacobian
from torch.nn import functional as F

from torchjac._accumulation.errors import CannotAccumulateError
from torchjac._accumulation.reading.rewrites import REWRITES
from torchjac._accumulation.reading.rewrites.windows import as_window, pieces
from torchjac._tangent.relations import Window
from torchjac._tangent.rules import RULES

_generator = torch.Generator().manual_seed(0)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=_generator, dtype=torch.float64)


W = {k: numbers(4, 2, *[3, 2, 2][:k]) for k in (1, 2, 3)}
X1 = numbers(1, 2, 7)
A = numbers(3, 3) + 4 * torch.eye(3, dtype=torch.float64)
MANY = numbers(5, 3, 3) + 4 * torch.eye(3, dtype=torch.float64)
LOWER, LU = A.tril(), torch.linalg.lu_factor(A)

CONVOLUTIONS = {
    "1d": (lambda x: F.conv1d(x, W[1], torch.ones(4).double(), padding=1), (2, 2, 6)),
    "2d": (lambda x: F.conv2d(x, W[2], padding=1).sin(), (2, 2, 4, 5)),
    "2d, stride and dilation": (
        lambda x: F.conv2d(x, W[2], stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        (1, 2, 7, 6),
    ),
    "2d, groups": (lambda x: F.conv2d(x**2, W[2][:, :1], stride=2, groups=2), (1, 2, 6, 7)),
    "2d, circular": (lambda x: F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), W[2]), (1, 2, 3, 4)),
    "3d": (lambda x: F.conv3d(x, W[3], stride=(1, 2, 1)), (1, 2, 3, 4, 3)),
    "transposed 1d": (lambda x: F.conv_transpose1d(x, W[1], stride=3, output_padding=1, groups=2), (2, 4, 3)),
    "transposed 2d": (lambda x: F.conv_transpose2d(x, W[2], stride=2, padding=1), (1, 4, 3, 3)),
    "all taps outside": (lambda x: F.conv1d(x, W[1], padding=3, stride=9), (1, 2, 1)),
    "by the kernel": (lambda w: F.conv1d(X1, w, stride=2), (3, 2, 3)),
    "by the kernel, padded": (lambda w: F.conv1d(X1, w, padding=2, dilation=2), (4, 2, 3)),
    "by the bias": (lambda b: F.conv1d(X1, W[1], b * b), (4,)),
    "by both": (lambda x: F.conv1d(x[:12].reshape(1, 2, 6), x[12:].reshape(2, 2, 2), padding=1), (20,)),
}
POOLS = {
    "average 1d": (lambda x: F.avg_pool1d(x**2, 2), (2, 2, 6)),
    "average 2d": (lambda x: F.avg_pool2d(x, 3, 2, 1), (1, 2, 6, 7)),
    "average 2d, ragged": (lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), (1, 1, 6, 7)),
    "average 2d, divisor": (lambda x: F.avg_pool2d(x, (2, 1), 1, divisor_override=7), (3, 4, 4)),
    "average 3d": (lambda x: F.avg_pool3d(x, 2, 1), (1, 1, 3, 4, 3)),
    "adaptive 1d": (lambda x: F.adaptive_avg_pool1d(x, 3), (2, 1, 7)),
    "adaptive 2d": (lambda x: F.adaptive_avg_pool2d(x, (3, 2)), (1, 2, 7, 5)),
    "adaptive 3d": (lambda x: F.adaptive_avg_pool3d(x, 2), (1, 1, 4, 3, 4)),
    "maximum 1d": (lambda x: F.max_pool1d(x.sin(), 2), (2, 2, 6)),
    "maximum 2d": (lambda x: F.max_pool2d(x, 3, 2, 1), (1, 2, 6, 7)),
    "maximum 3d": (lambda x: F.max_pool3d(x, 2), (1, 1, 4, 4, 4)),
    "adaptive maximum": (lambda x: F.adaptive_max_pool2d(x, (2, 3)), (1, 2, 5, 7)),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), (1, 1, 3, 4)),
    "cubic": (lambda x: F.interpolate(x, (5, 3), mode="bicubic", align_corners=True), (1, 1, 4, 4)),
    "nearest": (lambda x: F.interpolate(x, 7), (1, 2, 3)),
    "trilinear": (lambda x: F.interpolate(x, (3, 2, 4), mode="trilinear"), (1, 1, 2, 3, 2)),
    "replicated border": (lambda x: F.pad(x**2, (2, 1, 0, 3), mode="replicate"), (1, 1, 3, 4)),
    "reflected border": (lambda x: F.pad(x**2, (2, 1), mode="reflect"), (1, 1, 4)),
}
SUMS = {
    "cumsum": (lambda x: x.cumsum(1) ** 2, (3, 5)),
    "long cumsum": (lambda x: x.cumsum(0) ** 2, (70,)),
    "cumulative trapezoid": (lambda x: torch.cumulative_trapezoid(x**2, dim=1), (3, 5)),
    "trapezoid": (lambda x: torch.trapezoid(x**2, dim=1), (3, 5)),
    "diff": (lambda x: x.diff(n=2, dim=0) ** 2, (5, 2)),
    "gradient": (lambda x: torch.gradient(x**2, dim=0)[0], (5, 2)),
    "flip": (lambda x: x.flip(0) * x, (5, 2)),
    "einsum": (lambda x: torch.einsum("ni,ij,nj->n", x, A, x), (4, 3)),
    "batched products": (lambda x: torch.einsum("nik,nkj->nij", x, x.mT), (4, 3, 2)),
    "cross": (lambda x: torch.linalg.cross(x, x.roll(1, 0)), (4, 3)),
}
SOLVES = {
    "solve": (lambda x: torch.linalg.solve(A, x.T) ** 2, (4, 3)),
    "many": (lambda x: torch.linalg.solve(MANY, x) ** 2, (5, 3)),
    "from the right": (lambda x: torch.linalg.solve(MANY, x, left=False) ** 2, (5, 2, 3)),
    "matrices that depend": (lambda x: torch.linalg.solve(MANY + x[..., None] * x[:, None], x), (5, 3)),
    "factored": (lambda x: torch.linalg.lu_solve(*LU, x.T) ** 2, (4, 3)),
    "factored, adjoint": (lambda x: torch.linalg.lu_solve(*LU, x.T, adjoint=True) ** 2, (4, 3)),
    "cholesky": (lambda x: torch.cholesky_solve(x.T, LOWER) ** 2, (4, 3)),
    "lower": (lambda x: torch.linalg.solve_triangular(LOWER, x.T, upper=False) ** 2, (4, 3)),
    "upper": (lambda x: torch.linalg.solve_triangular(A.triu(), x.T, upper=True, unitriangular=True), (4, 3)),
    "lower, from the right": (lambda x: torch.linalg.solve_triangular(LOWER, x, upper=False, left=False), (4, 3)),
    "logarithms of determinants": (lambda x: torch.linalg.slogdet(MANY + x[..., None] * x[:, None])[1], (5, 3)),
}
TRANSFORMS = {
    "fft": (lambda x: torch.view_as_real(torch.fft.fft(x, dim=1, norm="ortho")), (4, 3)),
    "there and back": (lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=1) * (2 + 1j), n=5, dim=1), (3, 4)),
    "fft2": (lambda x: torch.fft.fft2(x).abs(), (2, 3, 2)),
    "rfftn": (lambda x: torch.fft.irfftn(torch.fft.rfftn(x, dim=(1, 2)), (2, 3), dim=(1, 2)) ** 2, (2, 2, 3)),
}
CHOICES = {
    "max": (lambda x: x.max(1).values * x[:, 0], (4, 3)),
    "median": (lambda x: x.median(1).values, (4, 3)),
    "cummax": (lambda x: x.cummax(1).values, (4, 3)),
}


def overwritten(x):
    y = torch.zeros_like(x)
    y[1:-1, 1:-1] = x[2:, 1:-1] * x[:-2, 1:-1]
    y[0] = x[0] ** 2
    y.T[-1] += x[:, 0]
    return y


def in_steps(x):
    y = x.clone()
    y[::2, 1:4:2] *= 2
    y[1, :] = 0
    y[-1].copy_(y[0])
    return y * y


def by_other_shapes(x):
    y = x.clone()
    y.view(-1)[1:4] = x[:, 0][:3] ** 2
    y.view(2, -1)[1, ::3] *= 3
    y.T.reshape(-1)[0] = 1
    y.diagonal()[1:] = x[0, :3]
    return y


def transposed(x):
    y = torch.empty(x.shape[::-1], dtype=x.dtype).T
    y[:] = x
    y[:, 1] = x[:, 0] * x[:, 2]
    return y


def loop(x):
    y = x.clone()
    for k in range(1, x.shape[1]):
        y[:, k] = y[:, k - 1].clone() * x[:, k]
    return y


WRITES = {f.__name__: (f, (4, 5)) for f in (overwritten, in_steps, by_other_shapes, transposed, loop)}

ALL = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("convolution", CONVOLUTIONS),
        ("pool", POOLS),
        ("sum", SUMS),
        ("solve", SOLVES),
        ("transform", TRANSFORMS),
        ("choice", CHOICES),
        ("write", WRITES),
    )
    for name, case in cases.items()
}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ALL)
def test_values_are_those_of_the_dense_jacobian_at_every_x(name: str, direction):
    f, shape = ALL[name]
    made, pattern = program(f, (numbers(*shape),), direction)
    for x in (numbers(*shape), numbers(*shape)):
        assert_close(dense(made((x,)), pattern), dense_jacobian(f, (x,)), 1e-11)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "name",
    [
        "convolution: 2d",
        "convolution: 2d, groups",
        "convolution: by both",
        "pool: average 1d",
        "pool: maximum 1d",
        "sum: cumsum",
        "solve: matrices that depend",
        "solve: logarithms of determinants",
        "transform: fft2",
        "choice: max",
        "write: overwritten",
        "write: loop",
    ],
)
def test_gradients_through_the_values(name: str, direction):
    f, shape = ALL[name]
    x = numbers(*shape).requires_grad_()
    made, pattern = program(f, (x,), direction)
    weights = numbers(*pattern.shape)
    (got,) = torch.autograd.grad((dense(made((x,)), pattern) * weights).square().sum(), x)
    (expected,) = torch.autograd.grad((dense_jacobian(f, (x,), create_graph=True) * weights).square().sum(), x)
    assert_close(got, expected, 1e-10)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_formulas_that_are_wrong_at_some_values_are_not_accumulated(direction):
    with pytest.raises(CannotAccumulateError, match=f"_linalg_det.* {direction} formula"):
        program(lambda x: torch.linalg.det(MANY + x[..., None] * x[:, None]), (numbers(5, 3),), direction)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_float32(direction):
    x = numbers(1, 2, 4, 4).float()

    def f(x):
        return F.avg_pool2d(F.conv2d(x, W[2].float(), padding=1) ** 2, 2)

    made, pattern = program(f, (x,), direction)
    assert made((x,)).dtype == torch.float32
    assert_close(dense(made((x,)), pattern), dense_jacobian(f, (x,)))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_tall_result_with_columns_that_are_the_same_in_every_row(direction):
    def f(x):
        return x * x.cumsum(1) + F.pad(x[:, 1:], (1, 0)).cumsum(1) ** 2

    x = numbers(70, 4)
    made, pattern = program(f, (x,), direction)
    assert_close(dense(made((x,)), pattern), dense_jacobian(f, (x,)))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_slices_that_are_written_stay_slices(direction):
    x = numbers(40, 30)
    made, _ = program(overwritten, (x,), direction)
    assert made.slots == (2,)
    coefficients = [node for node in made.graph.graph.nodes if node.meta.get("stage") == 0]
    assert not any("index" in str(node.target) for node in coefficients)


@pytest.mark.parametrize(
    ("f", "shape", "direction", "op"),
    [
        (lambda x: x.sort(1).values, (3, 4), "reverse", "scatter"),
        (lambda x: x.max(0).values, (65,), "forward", "gather"),
        (lambda x: torch.fft.fft(x).real, (65,), "forward", "_fft_r2c"),
        (lambda x: torch.linalg.solve(torch.eye(65).double(), x), (65,), "forward", "linalg_lu_solve"),
    ],
)
def test_what_is_too_long_or_not_said_is_refused(f, shape, direction, op):
    with pytest.raises(CannotAccumulateError) as refusal:
        program(f, (numbers(*shape),), direction)
    assert refusal.value.op == op


def test_every_op_that_is_rewritten_has_a_rule_that_detection_reads():
    views = {"as_strided"}
    assert set(REWRITES) - views <= set(RULES)


@pytest.mark.parametrize(
    ("window", "count"),
    [
        (as_window("prefix", 6, 6), 6),
        (as_window("all", 4, 5), 5),
        (Window.of_positions(torch.arange(5)[:, None] * 2 + torch.arange(3) - 1), 3),
        (Window.of_positions(torch.arange(5)[:, None] * 2 + torch.arange(3) - 1).transposed(11), 3),
        (Window.of_positions(torch.tensor([[0, 3], [1, -1], [7, 2]])), 3),
        (Window.of_positions(torch.full((3, 2), -1)), 0),
    ],
)
def test_pieces_have_every_pair_once_and_no_output_twice(window, count):
    found = pieces(window)
    assert len(found) == count
    assert all(p.out.diff().gt(0).all() for p in found)
    pairs = [(int(o), int(p)) for piece in found for o, p in zip(piece.out, piece.places, strict=True)]
    expected = list(zip(window.out.tolist(), window.places.tolist(), strict=True))
    assert sorted(pairs) == sorted(expected)
