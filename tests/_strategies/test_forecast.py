"""The forecast for several ranks: what can be counted by hand, and what cannot be better than it says."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from internals import UnitCost, Work, forecast

import torchjac as tj

WORK = Work(
    counts=[100],
    costs=[UnitCost(0.1, 0.01)],
    widths=[50],
    peaks=[(4000, 400)],
    chunk=10,
    nnz=5000,
    itemsize=8,
    in_place=False,
    solved=False,
)


def test_one_rank_sends_nothing():
    one = forecast(WORK, 1)
    assert one.none == one.rows == one.all == pytest.approx(1.1)
    assert (one.moved_rows, one.moved_all, one.busy) == (0, 0, 1)
    assert one.memory == 4000 + 9 * 400 + 100 * 50 * 8 + 5000 * 8


def test_another_scale_of_costs():
    assert forecast(WORK.taking(2.2), 1).none == pytest.approx(2.2)
    assert forecast(WORK.taking(2.2), 1024, latency=0.0).none == pytest.approx(0.22)


def test_two_ranks():
    two = forecast(WORK, 2, bandwidth=1e6, latency=0.25)
    assert two.none == pytest.approx(0.1 + 50 * 0.01 + 0.25)
    assert (two.moved_rows, two.moved_all) == (10_000, 20_000)  # bytes: half of half, and half
    assert two.rows == pytest.approx(two.none + 0.25 + 0.01)
    assert two.all == pytest.approx(two.none + 0.25 + 0.02)


def test_ranks_beyond_the_products_are_idle():
    many = forecast(WORK, 1024, latency=0.0)
    assert many.busy == 100
    assert many.none == pytest.approx(0.11)


def test_dense_rows_stay_and_entries_solved_for_need_all_products():
    assert forecast(dataclasses.replace(WORK, in_place=True), 4).moved_rows == 0
    solved = forecast(dataclasses.replace(WORK, solved=True), 4)
    assert solved.moved_rows == solved.moved_all == 100 * 50 * 8 * 3 // 4


@pytest.mark.parametrize("mode", ["forward", "reverse", "accumulate"])
def test_explain_has_a_line_for_each_number_of_ranks(mode):
    x = torch.rand(40, dtype=torch.float64)
    plan = tj.plan_jacobian(lambda x: x[1:] * x[:-1], x, mode=mode)
    text = plan.explain(x, ranks=(2, 8, 64, 1024))
    assert text.startswith(plan.explain())
    assert [line.split()[:2] for line in text.splitlines()[-4:]] == [[n, "ranks:"] for n in ("2", "8", "64", "1,024")]


def test_explain_of_hessians_and_what_it_refuses():
    x = torch.rand(9, dtype=torch.float64)
    plan = tj.plan_hessian(lambda x: (x[1:] * x[:-1] ** 2).sum(), x, recovery="substitution")
    assert "2 ranks:" in plan.explain(x, ranks=2)
    with pytest.raises(tj.OptionError, match="ranks=0"):
        plan.explain(x, ranks=0)
    with pytest.raises(tj.SignatureError):
        plan.explain(ranks=2)
