"""Patterns of functions, against the union of nonzero reverse-mode Jacobians at several points, or written down."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import dense_jacobian
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import torchjac as tj

D = torch.float64


def observed(f, x: torch.Tensor, times: int = 12) -> np.ndarray:
    """Union of the nonzero entries at x and at random points of another scale and order."""
    generator = torch.Generator().manual_seed(0)
    seen = np.zeros((0,))
    for k in range(times):
        at = x if k == 0 else torch.randn(x.shape, generator=generator, dtype=x.dtype) * (1 + k % 3)
        J = np.asarray(dense_jacobian(f, (at,)))
        seen = (J != 0) if k == 0 else seen | (J != 0)
    return seen


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(shape, dtype=D, generator=torch.Generator().manual_seed(1))


A = rand(2, 3, 3) + 3 * torch.eye(3, dtype=D)
SPARSE = torch.sparse_coo_tensor(torch.tensor([[0, 1, 2, 2], [1, 0, 2, 3]]), rand(4), (3, 4)).coalesce()
LSTM, GRU, RNN = (kind(2, 2).double() for kind in (nn.LSTM, nn.GRU, nn.RNN))
ATTENTION = rand(1, 1, 4, 2)

EXACT = {
    "matmul": (lambda x: x @ rand(4, 2), rand(3, 4)),
    "batched matmul": (lambda x: x @ rand(2, 4, 2), rand(2, 3, 4)),
    "einsum": (lambda x: torch.einsum("bik,bjk->bij", x, rand(2, 3, 4)), rand(2, 2, 4)),
    "outer": (lambda x: torch.outer(x, rand(3)), rand(4)),
    "conv1d dilated": (lambda x: F.conv1d(x, rand(2, 2, 3), stride=2, padding=2, dilation=2), rand(1, 2, 9)),
    "conv2d groups": (lambda x: F.conv2d(x, rand(4, 1, 2, 2), groups=2, padding="same"), rand(1, 2, 4, 3)),
    "conv transposed": (
        lambda x: F.conv_transpose2d(x, rand(1, 2, 2, 2), stride=2, output_padding=1),
        rand(1, 1, 3, 3),
    ),
    "conv circular": (lambda x: F.conv1d(F.pad(x, (1, 1), "circular"), rand(1, 1, 3)), rand(1, 1, 6)),
    "conv reflect": (lambda x: F.conv1d(F.pad(x, (2, 2), "reflect"), rand(1, 1, 3)), rand(1, 1, 6)),
    "pad replicate": (lambda x: F.pad(x, (2, 1, 0, 3), "replicate"), rand(1, 1, 3, 4)),
    "avg pool": (lambda x: F.avg_pool2d(x, 2, stride=1, padding=1), rand(1, 1, 4, 4)),
    "max pool": (lambda x: F.max_pool1d(x, 2), rand(1, 1, 6)),
    "adaptive pool": (lambda x: F.adaptive_avg_pool1d(x, 3), rand(1, 1, 7)),
    "interpolate": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), rand(1, 1, 3, 3)),
    "unfold": (lambda x: F.unfold(x, 2), rand(1, 1, 3, 3)),
    "fold": (lambda x: F.fold(x, (3, 3), 2), rand(1, 4, 4)),
    "tensor unfold": (lambda x: x.unfold(0, 3, 2), rand(7)),
    "cumsum": (lambda x: x.cumsum(1), rand(2, 4)),
    "cumprod": (lambda x: x.cumprod(0), rand(4)),
    "logcumsumexp": (lambda x: x.logcumsumexp(0), rand(4)),
    "flip roll pad": (lambda x: F.pad(x.flip(0).roll(1), (1, 2)), rand(4)),
    "softmax": (lambda x: x.softmax(1), rand(2, 3)),
    "layer norm": (lambda x: F.layer_norm(x, (3,)), rand(2, 3)),
    "norm": (lambda x: x.norm(dim=1), rand(3, 2)),
    "attention": (lambda x: F.scaled_dot_product_attention(x, ATTENTION, ATTENTION), rand(1, 1, 3, 2)),
    "embedding": (lambda w: F.embedding(torch.tensor([2, 0, 2]), w), rand(3, 2)),
    "embedding bag": (
        lambda w: F.embedding_bag(torch.tensor([2, 0, 1]), w, torch.tensor([0, 2]), mode="sum"),
        rand(4, 2),
    ),
    "gather": (lambda x: x.gather(1, torch.tensor([[0, 0], [2, 1]])), rand(2, 3)),
    "scatter add": (lambda x: torch.zeros(3, dtype=D).scatter_add(0, torch.tensor([0, 2, 0, 2]), x), rand(4)),
    "index put": (lambda x: torch.zeros(4, dtype=D).index_put((torch.tensor([1, 1, 3]),), x, accumulate=True), rand(3)),
    "index add": (lambda x: torch.zeros(3, 2, dtype=D).index_add(0, torch.tensor([0, 2, 0]), x), rand(3, 2)),
    "index": (lambda x: x[[0, 2], :, [1, 0]], rand(3, 2, 2)),
    "batched solve": (lambda b: torch.linalg.solve(A, b), rand(2, 3, 2)),
    "batched inverse": (lambda x: torch.linalg.inv(x + A), rand(2, 3, 3)),
    "triangular solve": (lambda b: torch.linalg.solve_triangular(A.triu(), b, upper=True), rand(2, 3, 2)),
    "fft": (lambda x: torch.view_as_real(torch.fft.fft(x, dim=0))[1:, :, 0], rand(3, 2)),
    "sort": (lambda x: x.sort(dim=1).values, rand(2, 3)),
    "topk": (lambda x: x.topk(2, dim=1).values, rand(2, 3)),
    "max": (lambda x: x.max(dim=0).values, rand(3, 2)),
    "cummax": (lambda x: x.cummax(0).values, rand(4)),
    "argmax gather": (lambda x: x.gather(1, x.argmax(1, keepdim=True)), rand(2, 3)),
    "where": (lambda x: torch.where(x > 0.5, x, x.flip(0)), rand(4)),
    "where constant": (lambda x: torch.where(torch.tensor([True, False, True]), x, 2 * x.flip(0)), rand(3)),
    "clamp": (lambda x: x.clamp(-1, 1) + x.roll(1), rand(4)),
    "lstm": (lambda x: LSTM(x)[0], rand(3, 1, 2)),
    "gru": (lambda x: GRU(x)[0], rand(3, 1, 2)),
    "rnn": (lambda x: RNN(x)[0], rand(3, 1, 2)),
    "complex product": (
        lambda x: torch.view_as_real(torch.view_as_complex(x) * torch.tensor(1 + 2j, dtype=torch.complex128)),
        rand(3, 2),
    ),
    "sparse matrix times vector": (lambda x: SPARSE @ x, rand(4)),
    "sparse csr times matrix": (lambda x: SPARSE.to_sparse_csr() @ x, rand(4, 2)),
    "cdist": (lambda x: torch.cdist(x, rand(3, 2)), rand(2, 2)),
    "vmap inside": (lambda x: torch.vmap(lambda row: row.cumsum(0))(x), rand(2, 3)),
    "grad inside": (lambda x: torch.func.grad(lambda y: (y[1:] * y[:-1] ** 2).sum())(x), rand(4)),
    "jvp inside": (lambda x: torch.func.jvp(lambda y: y**3, (x,), (torch.ones_like(x),))[1], rand(3)),
    "checkpoint": (lambda x: checkpoint(lambda y: (y**2).cumsum(0), x, use_reentrant=False), rand(4)),
    "in place into views": (lambda x: _in_place(x), rand(4)),
    "loop over elements": (lambda x: torch.stack([x[i] * x[i - 1] for i in range(4)]), rand(4)),
}


def _in_place(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros(2, 4, dtype=x.dtype)
    y[0, 1:] = x[:-1] ** 2
    y[1] = y[0]
    y[1, 2:] *= x[2:]
    y[0].zero_()
    return y


@pytest.mark.parametrize("name", EXACT)
def test_structured_ops_are_exact(name):
    f, x = EXACT[name]
    pattern = tj.jacobian_sparsity(f, x)
    np.testing.assert_array_equal(pattern.to_dense().numpy(), observed(f, x))
    assert pattern.scope == "global"


@pytest.mark.parametrize(
    "op", [torch.linalg.cholesky, lambda a: torch.linalg.qr(a).Q, lambda a: torch.linalg.eigh(a).eigenvectors]
)
def test_factorisations_stay_within_their_batch_element(op):
    dense = tj.jacobian_sparsity(lambda x: op(x @ x.mT + A @ A.mT), rand(2, 3, 3)).to_dense()
    assert not dense[:9, 9:].any()
    assert not dense[9:, :9].any()


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * 2 if x.sum() > 0 else x.flip(0),
        lambda x: x * x[0].item(),
        lambda x: x[x.nonzero().squeeze(1)],
        lambda x: x * float(x.max()),
    ],
    ids=["if", "item", "nonzero", "float"],
)
def test_decisions_by_value_make_a_pattern_local_and_name_the_line(f):
    pattern = tj.jacobian_sparsity(f, rand(3))
    assert pattern.scope == "local"
    assert any("test_detect.py" in note.line and "lambda x:" in note.line for note in pattern.notes)
    assert "local" in tj.plan_jacobian(f, rand(3)).explain()


def test_shapes_and_constants_are_no_decision():
    pattern = tj.jacobian_sparsity(lambda x: x * 2 if x.shape[0] > 2 and torch.ones(1).item() else x, rand(3))
    assert pattern.scope == "global"


def test_a_mask_by_value_may_select_anything():
    pattern = tj.jacobian_sparsity(lambda x: x[x > 0.5], torch.tensor([0.1, 0.9, 0.8]))
    assert pattern.scope == "global"
    assert pattern.to_dense().all()
    assert pattern.shape == (2, 3)


def test_used_times_zero_is_an_entry_and_unused_is_not():
    pattern = tj.jacobian_sparsity(lambda x: torch.stack([x[0] * 0, x[1].detach() * 2, x[2] + 0 * x[0]]), rand(4))
    np.testing.assert_array_equal(pattern.to_dense().int(), [[1, 0, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]])


class Straight(torch.autograd.Function):
    """Rounds forward, passes gradients of two neighbours backward; no setup_context, no jvp."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad + grad.roll(1)


def test_what_counts_is_the_derivative_not_the_value():
    pattern = tj.jacobian_sparsity(Straight.apply, rand(3))
    np.testing.assert_array_equal(pattern.to_dense().int(), [[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    assert "backward" in str(pattern.notes[0])


@torch.library.custom_op("torchjac_tests::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


double.register_autograd(lambda ctx, grad: grad * 2)


def test_a_custom_op_that_forward_mode_drops_is_traced_backward_too():
    pattern = tj.jacobian_sparsity(lambda x: torch.cat([double(x), x.flip(0)]), rand(3))
    np.testing.assert_array_equal(pattern.to_dense().int(), [*np.eye(3), *np.eye(3)[::-1]])
    assert tj.plan_jacobian(lambda x: double(x) * x, rand(3)).mode == "reverse"


def test_an_op_without_rule_mixes_everything_and_says_so():
    def f(x):
        return torch.cat([torch.sparse.sampled_addmm(S, x, x.mT).values(), x[0]])

    S = torch.eye(2, dtype=D).to_sparse_csr()
    pattern = tj.jacobian_sparsity(f, rand(2, 2))
    assert pattern.to_dense()[:2].all()
    assert any("no rule" in note.reason for note in pattern.notes)


def test_batch_norm_in_training_mixes_the_batch_and_keeps_its_buffers():
    norm = nn.BatchNorm1d(2).double()
    before = {name: t.clone() for name, t in norm.state_dict().items()}
    dense = tj.jacobian_sparsity(norm, rand(3, 2)).to_dense().reshape(3, 2, 3, 2)
    assert dense[:, 0, :, 0].all()
    assert not dense[:, 0, :, 1].any()
    assert all(torch.equal(before[name], t) for name, t in norm.state_dict().items())
    assert tj.jacobian_sparsity(norm.eval(), rand(3, 2)).nnz == 6


def test_a_compiled_function_is_followed():
    compiled = torch.compile(lambda x: x.cumsum(0))
    assert tj.jacobian_sparsity(compiled, rand(4)).nnz == 10


def test_nested_autograd_is_followed():
    def f(x):
        y = x if x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad((y[1:] * y[:-1] ** 2).sum(), y, create_graph=True)[0]

    assert tj.jacobian_sparsity(f, rand(4)) == tj.hessian_sparsity(lambda x: (x[1:] * x[:-1] ** 2).sum(), rand(4))


def test_complex_numbers_are_followed_in_both_parts():
    def f(x):
        z = torch.view_as_complex(x)
        return torch.stack([z.real * 2, z.imag**2, (z * z.conj()).real])

    dense = tj.jacobian_sparsity(f, rand(1, 2)).to_dense().int()
    np.testing.assert_array_equal(dense, [[1, 0], [0, 1], [1, 1]])


def test_a_causal_mask_takes_part_times_zero():
    f = lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)  # noqa: E731  # one line, used twice
    dense = tj.jacobian_sparsity(f, rand(1, 1, 3, 2)).to_dense().numpy()
    assert not (observed(f, rand(1, 1, 3, 2)) & ~dense).any()
    assert dense.all()  # weights exp(-inf) are zeros by value, and values are not followed


def test_a_transformer_encoder():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 2).double().eval()
    dense = tj.jacobian_sparsity(encoder, rand(2, 3, 8)).to_dense().reshape(2, 24, 2, 24)
    assert dense[0, :, 0].all()
    assert not dense[0, :, 1].any()


# ---- Hessians

HESSIANS = {
    "hexagon": (lambda x: x[0] * (x[3] + x[4]) + x[1] * (x[3] + x[5]) + x[2] * (x[4] + x[5]), rand(6)),
    "rosenbrock": (lambda x: (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(), rand(6)),
    "linear terms": (lambda x: x[0] * 3 + x.sum() + x[1] ** 2, rand(4)),
    "ratio": (lambda x: x[0] / x[1] + x[2], rand(3)),
    "log-sum-exp": (lambda x: x[:3].logsumexp(0), rand(5)),
    "linear": (lambda x: x.sum(), rand(3)),
}


@pytest.mark.parametrize("name", HESSIANS)
def test_hessian_patterns_are_exact(name):
    f, x = HESSIANS[name]
    expected = observed(lambda y: torch.autograd.grad(f(y), y, create_graph=True)[0] + 0 * y, x)
    np.testing.assert_array_equal(tj.hessian_sparsity(f, x).to_dense().numpy(), expected)


def test_a_hessian_over_two_inputs_is_one_symmetric_matrix():
    pattern = tj.hessian_sparsity(lambda x, y: (x * y[:2]).sum() + y[2] ** 2, rand(2), rand(3), argnums=(0, 1))
    assert pattern.shape == (5, 5)
    assert pattern == pattern.T
    assert (4, 4) in pattern
    assert (0, 0) not in pattern


def test_a_hessian_of_a_vector_is_refused():
    with pytest.raises(tj.OutputError, match=r"float64\[3\].*\n.*one real number"):
        tj.hessian_sparsity(lambda x: x * 2, rand(3))


# ---- leaving no trace


def test_the_callers_tensors_and_random_state_are_untouched():
    x = rand(3)
    before, state = x.clone(), torch.get_rng_state()
    tj.jacobian_sparsity(lambda y: y.mul_(torch.rand(3, dtype=D)), x)
    assert torch.equal(x, before)
    assert torch.equal(state, torch.get_rng_state())


def test_captured_memory_is_put_back():
    count = torch.zeros(1, dtype=D)

    def f(x):
        count.add_(1)
        return x * 2

    assert tj.jacobian_sparsity(f, rand(2)).nnz == 2
    assert count.item() == 0


def test_backend_flags_are_put_back():
    def flags():
        fast = torch.backends.mha.get_fastpath_enabled()
        return torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled, fast

    before = flags()
    with pytest.raises(ZeroDivisionError):
        tj.jacobian_sparsity(lambda x: x / (1 // 0), rand(2))
    assert flags() == before


@pytest.mark.parametrize("error", [KeyError("key"), RuntimeError("mine"), NotImplementedError("later")])
def test_exceptions_inside_f_come_out_unchanged(error):
    def f(x):
        raise error

    with pytest.raises(type(error)) as caught:
        tj.jacobian_sparsity(f, rand(2))
    assert caught.value is error


# ---- memory


def test_a_dense_set_with_something_added_stays_one_set():
    pattern = tj.jacobian_sparsity(lambda x: x.sum() + x * x.roll(1), torch.rand(200_000))
    assert pattern.nnz == 200_000**2
    assert pattern._set_indices.size < 1_000_000
    assert pattern.T._set_indices.size < 1_000_000
    assert "#" in str(pattern)


@pytest.mark.parametrize("by", [0, 1, (0, 1)], ids=str)
def test_the_backward_of_a_grid_sampler_returns_more_than_it_is_asked_for(by):
    args = rand(1, 2, 3, 3), rand(1, 2, 2, 2)
    pattern = tj.jacobian_sparsity(lambda x, g: F.grid_sample(x, g, align_corners=False), *args, argnums=by)
    assert pattern.shape == (8, {0: 18, 1: 8, (0, 1): 26}[by])


def test_notes_say_what_a_widening_costs():
    pattern = tj.jacobian_sparsity(lambda x: x.sort().values, rand(5))
    (note,) = pattern.notes
    assert (note.op, note.nonzeros) == ("gather", 20)
    assert "20 entries added" in str(note)
    assert "x.sort().values" in note.line


class Grouped(torch.autograd.Function):
    """A backward that works on lists of tensors, in place and without results."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        parts = [grad.clone(), grad[:1].clone()]
        torch._foreach_mul_(parts, 2.0)
        torch._foreach_add_(parts, [grad.roll(1), grad[:1]])
        return parts[0]


def test_ops_that_only_write_to_lists_are_followed():
    dense = tj.jacobian_sparsity(Grouped.apply, rand(3)).to_dense()
    assert (dense | ~(torch.eye(3, dtype=torch.bool) | torch.eye(3, dtype=torch.bool).roll(-1, 0))).all()


@pytest.mark.parametrize("rows", [2, 3, 8, 70])
def test_sums_over_elements_that_depend_on_the_same_inputs(rows):
    x = torch.rand(rows, 3)
    pattern = tj.jacobian_sparsity(lambda x: (x + x.roll(1, 1) + x.roll(2, 1)).sum(1), x)
    assert torch.equal(pattern.to_dense(), torch.eye(rows, dtype=torch.bool).repeat_interleave(3, 1))


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_padding_of_images_in_other_memory_formats_keeps_its_entries(mode):
    """``contiguous`` calls itself a view and copies: the pattern was empty."""
    x = rand(1, 3, 4, 4)

    def last(x):
        return F.pad(x.contiguous(memory_format=torch.channels_last), (1, 1, 1, 1), mode)

    def permuted(x):
        return F.pad(x.permute(0, 3, 1, 2), (1, 1, 1, 1), mode)

    for f in (last, permuted):
        np.testing.assert_array_equal(tj.jacobian_sparsity(f, x).to_dense().numpy(), observed(f, x, 2))
        np.testing.assert_array_equal(
            tj.hessian_sparsity(lambda x, f=f: (f(x) ** 3).sum(), x).to_dense().numpy(), np.eye(48, dtype=bool)
        )


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 2, 40, 1), {"size": (16, 1), "mode": "bilinear", "antialias": True}),
        ((1, 1, 40, 5), {"size": (16, 3), "mode": "bicubic", "antialias": True}),
        ((1, 1, 3, 40), {"size": (7, 13), "mode": "bicubic"}),
        ((1, 1, 4, 5, 1), {"size": (7, 3, 1), "mode": "trilinear", "align_corners": True}),
        ((1, 1, 90), {"scale_factor": 2.3, "mode": "linear"}),
        ((1, 1, 90), {"scale_factor": 0.3, "mode": "nearest-exact"}),
        ((1, 1, 90), {"size": 1, "mode": "linear"}),
    ],
    ids=str,
)
def test_interpolation_reads_what_it_reads(shape, options):
    x = rand(*shape)

    def f(x):
        return F.interpolate(x, **options)

    np.testing.assert_array_equal(tj.jacobian_sparsity(f, x).to_dense().numpy(), dense_jacobian(f, (x,)).numpy() != 0)


def test_long_signals_are_interpolated_without_the_square_of_their_length():
    x = torch.rand(1, 1, 100_000, dtype=D)
    assert tj.jacobian_sparsity(lambda x: F.interpolate(x, scale_factor=2, mode="linear"), x).nnz == 400_000 - 2
