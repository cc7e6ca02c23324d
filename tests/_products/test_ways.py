"""Products with a Jacobian, against the dense reference."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import assert_close, dense_jacobian

import torchjac as tj
from torchjac._function.flat import FlatFunction
from torchjac._products.chunk import chunk_size
from torchjac._products.forward import Forward
from torchjac._products.ravel import to_flat, to_leaves
from torchjac._products.reverse import Reverse, closed_over
from torchjac._products.seeds import Seeds
from torchjac._products.ways import WAYS, Products, Way

A, x0 = torch.rand(5, 3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)


def f(x):
    return {"big": torch.tanh(A @ x), "one": (x * x).sum().float()}


def flat(function=f, *args):
    made = FlatFunction(function, args or (x0,))
    made.bind(made_args := args or (x0,))(*made.leaves(made_args))
    return made


def test_leaves_and_vectors_are_inverse():
    function = flat(f)
    vectors = torch.rand(2, 6, dtype=torch.float64)
    parts = to_leaves(vectors, function.outputs)
    assert [(t.shape, t.dtype) for t in parts] == [((2, 5), torch.float64), ((2,), torch.float32)]
    assert_close(to_flat(parts, function.outputs, torch.float64), vectors, 1e-7)
    assert to_leaves(torch.rand(1), flat(lambda x: x.sum()).outputs)[0].shape == ()


@pytest.mark.parametrize("make", [Forward, Reverse, lambda *a: Reverse(*a, plain=True)])
def test_one_product_and_a_batch_of_them(make):
    product, J = make(flat(f), (x0,)), dense_jacobian(f, (x0,))
    seeds = torch.rand(4, 3 if make is Forward else 6, dtype=torch.float64)
    expected = seeds @ (J.T if make is Forward else J)
    assert_close(product.batch(seeds), expected, 1e-6)
    assert_close(product.one(seeds[0]), expected[0], 1e-6)


def test_reverse_gives_the_value_too():
    for plain in (False, True):
        assert_close(Reverse(flat(f), (x0,), plain=plain).value, torch.cat([f(x0)["big"], f(x0)["one"][None]]), 1e-6)


@pytest.mark.parametrize("way", [way for ways in WAYS.values() for way in ways], ids=str)
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_every_way_gives_the_same_in_every_chunk(way, chunk):
    products, J = Products(flat(f), way.direction, chunk), dense_jacobian(f, (x0,))
    products.way = way
    count = 3 if way.direction == "forward" else 6
    seeds = Seeds(np.arange(count, dtype=np.int32), torch.float64, torch.device("cpu"))
    got = products.compressed((x0,), seeds, count)
    assert products.way == way
    assert_close(got.T if way.direction == "forward" else got, J, 1e-6)


@pytest.mark.parametrize("way", [way for ways in WAYS.values() for way in ways], ids=str)
def test_every_product_draws_the_same_random_numbers(way):
    function = flat(torch.nn.Dropout(0.5), torch.ones(40, dtype=torch.float64))
    products = Products(function, way.direction, 7)
    products.way = way
    seeds = Seeds(np.arange(40, dtype=np.int32), torch.float64, torch.device("cpu"))
    torch.manual_seed(3)
    got = products.compressed((torch.ones(40, dtype=torch.float64),), seeds, 40)
    torch.manual_seed(3)
    mask = torch.nn.Dropout(0.5)(torch.ones(40, dtype=torch.float64))
    assert torch.equal(got, torch.diag(mask))


@pytest.mark.parametrize("plain", [True, False])
def test_what_f_knows_of_its_inputs_from_elsewhere_is_constant(plain):
    x = x0.clone().requires_grad_()
    of_x = x * 2
    J = Reverse(flat(lambda y: x * of_x * y.sin(), x), (x,), plain=plain).batch(torch.eye(3, dtype=x.dtype))
    assert_close(J.detach(), torch.diag(2 * x0**2 * x0.cos()))
    (got,) = torch.autograd.grad(J.sum(), x)  # and is differentiated, as what it is, with the Jacobian
    assert_close(got, 4 * x0 * x0.cos() - 2 * x0**2 * x0.sin())


class OneByOne(torch.autograd.Function):
    """Sine, with a backward that no transform can look into."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return torch.from_numpy(g.numpy() * ctx.saved_tensors[0].cos().numpy())


def test_a_way_that_pytorch_refuses_is_left_once_and_said_once():
    products = Products(flat(OneByOne.apply), "reverse", 8)
    seeds = Seeds(np.zeros(3, np.int32), torch.float64, torch.device("cpu"))
    with pytest.warns(
        tj.TorchjacWarning, match="products run as VJPs by autograd, one at a time, because PyTorch said: "
    ):
        first = products.compressed((x0,), seeds, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)
        assert torch.equal(products.compressed((x0,), seeds, 1), first)
    assert_close(first[0], x0.cos())


def test_an_error_of_f_is_raised_as_it_is():
    def wrong(x):
        raise RuntimeError("no such luck")

    products = Products(flat(f), "reverse", 8)
    products.function.f = wrong
    with pytest.raises(RuntimeError, match="no such luck"):
        products.compressed((x0,), Seeds(np.zeros(6, np.int32), torch.float64, torch.device("cpu")), 1)


def test_forward_mode_without_a_formula_says_what_to_write():
    y = torch.rand(4, 3, dtype=torch.float64)
    with pytest.raises(tj.OptionError, match=r"without forward derivatives(.|\n)*_cdist_forward(.|\n)*mode='auto'"):
        tj.jacobian(lambda x: torch.cdist(x, y), y + 1, mode="forward")


def test_a_rejected_way_is_not_taken_again():
    products = Products(flat(f), "forward", 8)
    products.way = Way("forward")
    assert products.reject()
    products.compressed((x0,), Seeds(np.zeros(3, np.int32), torch.float64, torch.device("cpu")), 1)
    assert products.way == Way("forward", batched=False)
    assert not products.reject()


@given(st.integers(0, 10**6), st.integers(0, 10**10), st.sampled_from([2, 4, 8]))
def test_a_chunk_has_at_least_one_product_and_no_more_than_there_are(colors, width, itemsize):
    chunk = chunk_size(colors, width, itemsize)
    assert 1 <= chunk <= max(colors, 1)
    assert chunk == 1 or 8 * chunk * width * itemsize <= 256 * 2**20


def test_seeds_are_never_wider_than_a_chunk():
    widths = []

    class Watching(Seeds):
        def chunk(self, start, stop):
            widths.append(stop - start)
            return super().chunk(start, stop)

    Products(flat(f), "reverse", 4).compressed((x0,), Watching(np.arange(6, dtype=np.int32), x0.dtype, x0.device), 6)
    assert widths == [4, 2]


def test_the_parameters_of_f_are_found_and_what_lies_before_its_inputs_is_not():
    w, before = torch.rand(3, requires_grad=True), torch.rand(3, requires_grad=True)
    x = before.exp()
    assert [t is w for t in closed_over([(x * w).sin()], [x])] == [True]
    assert closed_over([x.sin()], [x]) == closed_over([torch.ones(2)], [x]) == []


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_pairs_of_real_numbers_beside_an_odd_number_of_others(mode):
    def f(x):  # the derivative of view_as_real is view_as_complex, which wants even strides and offsets
        return x.sin(), torch.view_as_real(torch.fft.rfft(x))

    x = torch.rand(5, dtype=torch.float64)
    assert_close(tj.jacobian(f, x, mode=mode, ravel=True), dense_jacobian(f, (x,)))
