"""Masks and indices computed from x: what is put back by the same goes where it came from; against plain autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import dense_jacobian

import torchjac as tj
from torchjac._detection import detect as detection
from torchjac._function.flat import FlatFunction
from torchjac._matrices.notes import Note

D, N = torch.float64, 12
LAYERS = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
WEIGHT = torch.rand(2, 2, dtype=D, generator=torch.Generator().manual_seed(5))


def damped(x):
    y = x.roll(1) * x + x.roll(-1)
    y[y > 0.5] *= 0.2
    return y


def cut(x):
    y = x * x.flip(0)
    y[x > 0.3] = 0.0
    return y


def two_branches(x):
    y = torch.zeros_like(x)
    y[x > 0.5] = x[x > 0.5] ** 2
    y[~(x > 0.5)] = x[~(x > 0.5)].exp() * 3
    return y


def by_masked_scatter(x):
    mask = x > 0.5
    return torch.zeros_like(x).masked_scatter(mask, x.masked_select(mask).sin())


def by_masked_fill(x):
    return (x * x.roll(1)).masked_fill(x > 0.5, 0.0)


def by_positions(x):
    i = (x > 0.5).nonzero().squeeze(1)
    y = x * x.roll(1)
    y[i] = y[i] ** 2
    return y


def by_where(x):
    (i,) = torch.where(x > 0.5)
    return x.index_put((i,), x[i].exp())


def by_positions_in_two_dimensions(x):
    X = x.reshape(-1, 3)
    i, j = torch.where(X > 0.5)
    return X.index_put((i, j), X[i, j].exp())


def by_mask_and_positions(x):
    y = x * x.roll(1)
    y[x > 0.5] = y[(x > 0.5).nonzero().flatten()] * 2
    return y


def sorted_and_put_back(x):
    values, i = x.sort()
    return torch.zeros_like(x).scatter(0, i, values * 2)


def sorted_and_unsorted(x):
    i = x.argsort()
    return x[i].exp()[i.argsort()]


def largest_doubled(x):
    values, i = x.topk(3)
    return x.scatter(0, i, values * 2)


def largest_of_groups(x):
    X = x.reshape(4, 3)
    values, i = X.topk(2, dim=1)
    return X.scatter(1, i, values.sin())


def sorted_in_groups(x):
    X = x.reshape(4, 3)
    values, i = X.sort(1)
    return torch.zeros_like(X).scatter(1, i, values.sin())


def added_by_index(x):
    i = x.argsort()[:4]
    return x.index_add(0, i, x.index_select(0, i) ** 2)


def nothing_chosen(x):
    y = x * x.roll(1)
    y[y > 100] *= 2
    return y


def layers_of_rows(x):
    X = x.reshape(-1, 2)
    mask = X[:, 0] > 0.5
    Y = X.clone()
    Y[mask] = LAYERS(X[mask])
    return Y


def columns_of_rows(x):
    X = x.reshape(-1, 2)
    mask = X[:, 0] > 0.5
    rows = X[mask]
    new = rows.clone()
    new[:, 0] = rows[:, 0] * rows[:, 1]
    Y = X.clone()
    Y[mask] = new
    return Y


def a_row_for_all(x):
    X = x.reshape(-1, 2)
    Y = X.clone()
    Y[X[:, 1] > 0.5] = X[0] * 2
    return Y


def columns_by_mask(x):
    X = x.reshape(3, 4)
    mask = X[0] > 0.5
    Y = X * 1.0
    Y[:, mask] = X[:, mask] ** 2
    return Y


EXACT = [
    damped,
    cut,
    two_branches,
    by_masked_scatter,
    by_masked_fill,
    by_positions,
    by_where,
    by_positions_in_two_dimensions,
    by_mask_and_positions,
    sorted_and_put_back,
    sorted_and_unsorted,
    largest_doubled,
    largest_of_groups,
    sorted_in_groups,
    added_by_index,
    nothing_chosen,
    layers_of_rows,
    columns_of_rows,
    a_row_for_all,
    columns_by_mask,
]


def other_mask(x):
    y = x.clone()
    y[x > 0.5] = x[x.roll(1) > 0.5].sum()
    return y


def normalised(x):
    y = x.clone()
    chosen = x[x > 0.5]
    y[x > 0.5] = chosen / chosen.sum()
    return y


def mask_written_between(x):
    mask = x > 0.5
    chosen = x[mask.clone()]
    mask[:] = mask.roll(1)
    y = x.clone()
    y[mask] = chosen**2
    return y


def x_written_between(x):
    y = x.clone()
    chosen = y[y > 0.5]
    y[:] = y.roll(1)
    y[y > 0.5] = chosen**2
    return y


def reversed_between(x):
    y = x.clone()
    y[x > 0.5] = x[x > 0.5].flip(0) ** 2
    return y


def first_for_all(x):
    y = x.clone()
    y[x > 0.5] = x[x > 0.5][:1]
    return y


def ranks(x):
    return x * 2 + x[x.argsort().argsort()]


LOOSE = [other_mask, normalised, mask_written_between, x_written_between, reversed_between, first_for_all, ranks]


def uniform(k: int = 0) -> torch.Tensor:
    return torch.rand(N, dtype=D, generator=torch.Generator().manual_seed(k))


def observed(f, times: int = 60) -> np.ndarray:
    seen = [dense_jacobian(f, (uniform(k),)).numpy() != 0 for k in range(times)]
    return np.any(seen, axis=0)


def by_columns(f, x) -> np.ndarray:
    function = FlatFunction(f, (x,))
    function.look((x,))
    return detection._by_columns(function, (x,), Note("backward", "asked for")).to_dense().numpy()


@pytest.mark.parametrize("f", EXACT, ids=lambda f: f.__name__)
def test_what_is_put_back_by_the_same_choice_is_exact(f):
    pattern, seen = tj.jacobian_sparsity(f, uniform()), observed(f)
    if f is nothing_chosen:
        seen |= np.eye(N, dtype=bool)
    np.testing.assert_array_equal(pattern.to_dense().numpy(), seen)
    assert pattern.scope == "global"
    assert not (seen & ~by_columns(f, uniform())).any()


@pytest.mark.parametrize("f", LOOSE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_what_is_put_back_otherwise_loses_nothing(f, seed):
    seen = observed(f)
    pattern = tj.jacobian_sparsity(f, uniform(seed))
    assert pattern.scope == "local" or not (seen & ~pattern.to_dense().numpy()).any()
    assert not (seen & ~by_columns(f, uniform(seed))).any()


@pytest.mark.parametrize("f", [largest_doubled, damped, layers_of_rows, by_where], ids=lambda f: f.__name__)
def test_hessians_of_what_is_put_back(f):
    def energy(x):
        return f(x).pow(3).sum()

    H = tj.hessian_sparsity(energy, uniform())
    seen = np.any([torch.autograd.functional.hessian(energy, uniform(k)).numpy() != 0 for k in range(20)], axis=0)
    assert not (seen & ~H.to_dense().numpy()).any()
    assert H.scope == "global"


def test_a_mask_that_chooses_nothing_now_and_is_summed_is_said_to_be_local():
    pattern = tj.jacobian_sparsity(lambda x: x[x > 100].sum() + x, uniform())
    assert pattern.scope == "local"


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * 2 if len(x[x > 0.5]) > 3 else x.flip(0),
        lambda x: x * 2 if (x > 0.5).nonzero().numel() else x.flip(0),
        lambda x: x * (x[x > 0.5] ** 2).shape[0],
        lambda x: x + (x > 0.5).nonzero().sum(),
        lambda x: x[x.nonzero().squeeze(1)],
    ],
    ids=["len", "numel", "shape", "sum", "positions"],
)
def test_how_many_are_chosen_is_a_value_that_f_reads(f):
    pattern = tj.jacobian_sparsity(f, uniform())
    assert pattern.scope == "local"
    assert any("test_selections.py" in note.line for note in pattern.notes)


def test_twenty_thousand_damped_numbers_have_three_entries_a_row():
    x = torch.rand(20_000, dtype=D)
    assert tj.jacobian_sparsity(damped, x).nnz == 60_000


def test_why_follows_what_is_put_back():
    pattern = tj.jacobian_sparsity(damped, uniform())
    assert any("y[y > 0.5] *= 0.2" in step.line for step in pattern.why(3, 2))
