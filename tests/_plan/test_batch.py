"""batch_jacobian: the diagonal blocks of the dense Jacobian, refused where there is more than those."""

from __future__ import annotations

import gc
import warnings
import weakref

import pytest
import torch
from internals import batch_plan
from oracles import assert_close, dense_jacobian
from torch import nn

import torchjac as tj


def blocks(f, x, dims: int) -> torch.Tensor:
    """(*batch, *out, *in) out of the dense Jacobian by plain autograd; asserts that nothing else is in it."""
    y = f(x)
    batch, out, into = x.shape[:dims], y.shape[dims:], x.shape[dims:]
    b = batch.numel()
    J = dense_jacobian(f, [x]).reshape(b, out.numel(), b, into.numel())
    own = J[torch.arange(b), :, torch.arange(b)]
    assert_close(own.abs().sum(), J.abs().sum())
    return own.reshape(batch + out + into)


def mlp(into: int, out: int, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    return nn.Sequential(nn.Linear(into, 6), nn.Tanh(), nn.Linear(6, out)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("batch", "into", "out"), [((5,), 3, 2), ((2, 4), 2, 5), ((1,), 3, 3), ((2, 1, 3), 1, 4), ((300,), 2, 1)]
)
def test_blocks_of_a_network(batch, into, out, dtype):
    f, x = mlp(into, out, dtype), torch.rand(*batch, into, dtype=dtype)
    few = x if x.numel() < 1000 else x[:7]
    J = tj.batch_jacobian(f, x, batch_dims=len(batch))
    assert J.shape == (*batch, out, into)
    assert_close(J[: few.shape[0]], blocks(f, few, len(batch)))


@pytest.mark.parametrize(("into", "out", "mode"), [(3, 2, "reverse"), (2, 3, "forward"), (3, 3, "reverse")])
def test_as_many_products_as_the_smaller_side(into, out, mode):
    plan = batch_plan(mlp(into, out), (torch.rand(4, into, dtype=torch.float64),), 0, 1, True, {})
    assert (plan.mode, plan.num_products) == (mode, min(into, out))
    assert f"batched {mode}" in plan.explain()


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_events_of_any_shape(mode):
    def f(x):  # (b, 2, 3) -> (b, 3, 2, 2), and a scalar a sample
        y = torch.einsum("bij,bik->bjki", x, x.sin())
        return y[..., :2, :], x.square().sum((1, 2))

    x = torch.rand(4, 2, 3, dtype=torch.float64)
    J, gradient = tj.batch_jacobian(f, x, mode=mode)
    assert_close(J, blocks(lambda x: f(x)[0], x, 1))
    assert_close(gradient, 2 * x)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_trees_in_and_out(mode):
    def f(given, scale):
        return {"sum": given["a"] + scale[0] * given["b"], "product": given["a"] * given["b"]}

    given = {"a": torch.rand(3, 2, dtype=torch.float64), "b": torch.rand(3, 2, dtype=torch.float64)}
    scale = [torch.rand(3, 1, dtype=torch.float64)]
    J = tj.batch_jacobian(f, given, scale, argnums=(0, 1), mode=mode)
    eye = torch.eye(2, dtype=torch.float64)
    assert_close(J["sum"][0]["b"], scale[0][..., None] * eye)
    assert_close(J["product"][0]["a"], given["b"][..., None] * eye)
    assert_close(J["sum"][1][0], given["b"][..., None])
    assert not J["product"][1][0].any()


def test_a_shared_input_is_differentiated_forward_or_held():
    def f(x, w):
        return torch.tanh(x @ w)

    x, w = torch.rand(5, 3, dtype=torch.float64), torch.rand(3, 2, dtype=torch.float64)
    by_x = tj.batch_jacobian(f, x, w, batched=(True, False))
    both = tj.batch_jacobian(f, x, w, argnums=(0, 1), batched=(True, False))
    assert_close(by_x, blocks(lambda x: f(x, w), x, 1))
    assert_close(both[0], by_x)
    assert_close(both[1], dense_jacobian(f, [x, w], 1).reshape(5, 2, 3, 2))
    with pytest.raises(tj.OptionError, match="all samples share"):
        tj.batch_jacobian(f, x, w, argnums=(0, 1), batched=(True, False), mode="reverse")


def test_aux_is_passed_through():
    x = torch.rand(4, 2, dtype=torch.float64)
    J, aux = tj.batch_jacobian(lambda x: (x**2, "aux"), x, has_aux=True)
    assert aux == "aux"
    assert_close(J, torch.diag_embed(2 * x))


def test_what_vmap_cannot_run():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRU(2, 3, batch_first=True)

        def forward(self, x):
            out = torch.zeros(x.shape[0], 3, dtype=x.dtype)
            out[:, :] = self.cell(x)[0][:, -1]
            return out if bool(x.isfinite().all()) else x

    f, x = Recurrent().double(), torch.rand(3, 4, 2, dtype=torch.float64)
    with pytest.warns(tj.TorchjacWarning, match="f decides by a value"):
        J = tj.batch_jacobian(f, x)
    assert_close(J, blocks(f, x, 1), 1e-10)


# ---- gradients through it


def trained(f: nn.Module, J: torch.Tensor) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 1, J.numel(), dtype=J.dtype).reshape(J.shape)
    parameters = [p for p in f.parameters() if p.requires_grad]
    found = torch.autograd.grad((J * weights).square().sum(), parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


@pytest.mark.parametrize(("into", "out"), [(3, 2), (2, 4)])
@pytest.mark.parametrize("norm", ["none", "layer", "batch, in evaluation"])
def test_a_loss_on_the_blocks_trains_the_parameters(into, out, norm):
    layers = {"none": nn.Identity, "layer": lambda: nn.LayerNorm(6), "batch, in evaluation": lambda: nn.BatchNorm1d(6)}
    f = nn.Sequential(nn.Linear(into, 6), layers[norm](), nn.Tanh(), nn.Linear(6, out)).double()
    x = torch.rand(5, into, dtype=torch.float64)
    if norm.startswith("batch"):
        f(x + 1)  # running statistics that are not those it began with
    f.eval()
    each = [dense_jacobian(f, [row[None].requires_grad_()], create_graph=True) for row in x]
    expected = trained(f, torch.stack(each))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.TorchjacWarning)  # LayerNorm's forward gradient is wrong, and said so
        J = tj.batch_jacobian(f, x)
    for got, want in zip(trained(f, J), expected, strict=True):
        assert_close(got, want, 1e-10)
    with torch.no_grad():
        assert not tj.batch_jacobian(f, x).requires_grad


def test_gradients_by_the_input_and_of_the_gradient():
    f = mlp(2, 2)
    x = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: tj.batch_jacobian(f, x), x)


# ---- samples that interact


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        return torch.tanh(self.norm(x))


MIXED = {
    "mean": lambda x: x - x.mean(0),
    "roll": lambda x: x * x.roll(1, 0),
    "mm": lambda x: torch.softmax(x @ x.T, 1) @ x,
    "cumsum": lambda x: x.cumsum(0),
    "max": lambda x: x - x.max(0).values,
}


@pytest.mark.parametrize("op", MIXED)
@pytest.mark.parametrize("check", ["first", "always"])
def test_mixed_samples_are_refused_by_name(op, check):
    x = torch.rand(6, 3, dtype=torch.float64)
    with pytest.raises(tj.InteractionError, match=r"samples \[\d\] and \[\d\] of the batch interact") as caught:
        tj.batch_jacobian(MIXED[op], x, check=check)
    names = {"max": ("amax", "max", "scatter", "gather", "value_selecting_reduction_backward", "max_dim")}
    assert any(name in caught.value.why for name in names.get(op, (op,)))
    assert "test_batch.py" in caught.value.why


def test_a_batch_norm_in_training_is_refused_with_the_line_and_the_way_out():
    f, x = Normed().double(), torch.rand(6, 3, dtype=torch.float64)
    before = f.norm.running_mean.clone()
    with pytest.raises(tj.InteractionError, match="BatchNorm in training") as caught:
        tj.batch_jacobian(f, x)
    assert "model.eval()" in caught.value.instead
    assert "self.norm(x)" in caught.value.why
    assert before.shape == f.norm.running_mean.shape
    f.eval()
    assert_close(tj.batch_jacobian(f, x), blocks(f, x, 1))
    f.train()
    with pytest.raises(tj.InteractionError):  # f is the same object, and another function
        tj.batch_jacobian(f, x)


def test_two_batch_dimensions_name_both_indices():
    def f(x):
        return x + x.mean(1, keepdim=True)

    x = torch.rand(2, 5, 3, dtype=torch.float64)
    with pytest.raises(tj.InteractionError, match=r"samples \[\d, \d\] and \[\d, \d\]"):
        tj.batch_jacobian(f, x, batch_dims=2)
    with pytest.raises(tj.OutputError, match="first dimensions"):
        tj.batch_jacobian(lambda x: f(x).sum(1), x, batch_dims=2)
    assert_close(tj.batch_jacobian(f, x), blocks(f, x, 1))  # one is right


def test_what_few_samples_do_not_show_the_probe_does():
    x = torch.rand(8, 3, dtype=torch.float64)
    far = lambda x: x + x.roll(5, 0)  # noqa: E731  # of three samples, roll(5) is roll(2): found by the trace
    for f in (far, lambda x: x + x.mean(0) if x.shape[0] == 8 else x):
        with pytest.raises(tj.InteractionError, match="interact"):
            tj.batch_jacobian(f, x)


def test_a_function_of_one_batch_size_is_probed_and_traced_whole_when_wrong():
    x, own = torch.rand(8, 3, dtype=torch.float64), torch.rand(8, 1, dtype=torch.float64)
    assert_close(tj.batch_jacobian(lambda x: own * x, x), torch.diag_embed(own.expand(8, 3)))
    with pytest.raises(tj.InteractionError) as caught:
        tj.batch_jacobian(lambda x: own * x + x.sum(0), x)
    assert "sum" in caught.value.why


def test_shared_inputs_do_not_hide_a_meeting():
    def f(x, w):
        return x * w + (x.sum(0) if x.shape[0] == 8 else 0)

    x, w = torch.rand(8, 3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    with pytest.raises(tj.InteractionError) as caught:
        tj.batch_jacobian(f, x, w, argnums=(1, 0), batched=(True, False))
    assert "sum" in caught.value.why


def test_samples_that_could_meet_are_checked_in_every_call():
    def f(x, gate):
        return x + gate * x.mean(0)

    x, closed = torch.rand(4, 2, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)
    with pytest.warns(tj.TorchjacWarning, match="every call is checked"):
        J = tj.batch_jacobian(f, x, closed)
    assert_close(J, torch.eye(2, dtype=torch.float64).expand(4, 2, 2))
    with pytest.raises(tj.InteractionError):
        tj.batch_jacobian(f, x, closed + 1)


def test_a_branch_taken_by_value_may_be_another_next_time():
    def f(x):
        return x.cumsum(0) if bool(x[0, 0] > 0.5) else x.sin()

    x = torch.rand(4, 2, dtype=torch.float64) / 2
    with pytest.warns(tj.TorchjacWarning, match="f decides by a value"):
        J = tj.batch_jacobian(f, x)
    assert_close(J, torch.diag_embed(x.cos()))
    with pytest.raises(tj.InteractionError, match="interact"):
        tj.batch_jacobian(f, x + 0.6)


def test_outputs_without_elements():
    assert tj.batch_jacobian(lambda x: x[:, :0], torch.rand(4, 2)).shape == (4, 0, 2)


def test_inside_torch_func_grad():
    f, x = mlp(2, 2), torch.rand(3, 2, dtype=torch.float64)
    parameters = dict(f.named_parameters())

    def loss(parameters, **options):
        def g(x):
            return torch.func.functional_call(f, parameters, (x,))

        return tj.batch_jacobian(g, x, **options).square().sum()

    got = torch.func.grad(lambda p: loss(p, check=False))(parameters)["0.weight"]
    each = torch.stack([dense_jacobian(f, [row.requires_grad_()], create_graph=True) for row in x])
    assert_close(got, torch.autograd.grad(each.square().sum(), f[0].weight)[0])
    with pytest.raises(tj.OptionError, match="inside a transform"):
        torch.func.grad(loss)(parameters)


def test_without_a_check_f_is_trusted():
    x = torch.rand(4, 2, dtype=torch.float64)
    J = tj.batch_jacobian(MIXED["cumsum"], x, check=False)  # adds up what the samples contribute
    assert J.shape == (4, 2, 2)


# ---- what is remembered


def test_the_second_call_is_checked_no_more_and_f_is_not_kept():
    class Counted(nn.Module):
        calls = 0

        def forward(self, x):
            Counted.calls += 1
            return x.sin()

        def twice(self, x):
            return 2 * self(x)

    f, x = Counted(), torch.rand(5, 2, dtype=torch.float64)
    for g in (f, f.twice):
        for call, most in ((1, 20), (2, 1), (3, 1)):
            Counted.calls = 0
            tj.batch_jacobian(g, x)
            assert 1 <= Counted.calls <= most, call
    Counted.calls = 0
    tj.batch_jacobian(f, x[:3])  # another signature
    assert Counted.calls > 1
    gone = weakref.ref(f)
    del f, g
    gc.collect()
    assert gone() is None


def test_wrong_requests():
    x = torch.rand(4, 2)
    with pytest.raises(tj.OptionError, match="batch_dims=0"):
        tj.batch_jacobian(torch.sin, x, batch_dims=0)
    with pytest.raises(tj.OptionError, match=r"batched=\(True,\) for 2 arguments"):
        tj.batch_jacobian(torch.mul, x, x, batched=(True,))
    with pytest.raises(tj.OptionError, match="no option 'layout'"):
        tj.batch_jacobian(torch.sin, x, layout=torch.sparse_csr)
    with pytest.raises(tj.InputError, match=r"args\[1\] is float32\[2\]") as caught:
        tj.batch_jacobian(torch.mul, x, x[0])
    assert "batched=" in caught.value.instead
    with pytest.raises(tj.InputError, match="at least 3 dimensions"):
        tj.batch_jacobian(torch.sin, x, batch_dims=3)
    with pytest.raises(tj.InputError, match="no argument is batched"):
        tj.batch_jacobian(torch.sin, x, batched=False)
    with pytest.raises(tj.OutputError, match="first dimensions"):
        tj.batch_jacobian(lambda x: x.sum(), x)


def test_memory_is_that_of_plans():
    f, x = mlp(3, 3), torch.rand(6, 3, dtype=torch.float64)
    expected = blocks(f, x, 1)
    assert_close(tj.batch_jacobian(f, x, memory="100KiB"), expected)
    with pytest.raises(tj.OptionError, match="too small"):
        tj.batch_jacobian(f, x, memory="1KiB")
