"""mode="auto": the cheapest of what could be done."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from oracles import assert_close, dense_jacobian
from torch import nn

import torchjac as tj
from torchjac._products.cost import UnitCost
from torchjac._products.seeded import Side


def network(*widths):
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers).double().requires_grad_(False)


@pytest.fixture
def no_clock(monkeypatch):
    """Fail when something is timed."""
    monkeypatch.setattr(Side, "unit_cost", lambda *_: pytest.fail("timed, where the answer was known"))


@pytest.fixture
def costs(monkeypatch):
    """Say what a JVP and a VJP cost."""
    told = {"forward": UnitCost(0, 1e-3), "reverse": UnitCost(0, 1e-3)}
    monkeypatch.setattr(Side, "unit_cost", lambda self, args: told[self.direction])
    return told


pytestmark = pytest.mark.usefixtures("products_only")


def chosen(plan):
    return [c.name for c in plan.prepared.choice.candidates if c.chosen]


@pytest.mark.parametrize(("m", "n", "mode"), [(4096, 64, "forward"), (64, 4096, "reverse")])
@pytest.mark.usefixtures("no_clock")
def test_wide_and_tall_networks_get_the_right_mode(m, n, mode):
    plan = tj.plan_jacobian(network(n, 32, m), torch.rand(n).double())
    assert (plan.mode, plan.num_products, chosen(plan)) == (mode, 64, [f"dense {mode}"])


@pytest.mark.usefixtures("no_clock")
def test_small_problems_are_not_timed_and_take_reverse_unless_forward_takes_far_fewer():
    def picked(columns):
        return tj.plan_jacobian(network(columns, 6), torch.rand(columns).double()).mode

    assert [picked(n) for n in (2, 3, 4, 6, 12)] == ["forward", "forward", "reverse", "reverse", "reverse"]
    assert (
        "reverse mode, small, and JVPs cost more" in tj.plan_jacobian(network(4, 6), torch.rand(4).double()).explain()
    )


def test_a_square_network_takes_what_is_predicted_to_cost_less(costs):
    net, x = network(300, 32, 300), torch.rand(300).double()
    costs["forward"] = UnitCost(0, 0.5e-3)
    plan = tj.plan_jacobian(net, x)
    assert (plan.mode, plan.prepared.choice.why) == ("forward", "the least predicted time")
    assert [c.seconds for c in plan.prepared.choice.candidates[:2]] == pytest.approx([0.15, 0.3])
    costs["reverse"] = UnitCost(0.01, 0.1e-3)
    assert tj.plan_jacobian(net, x).mode == "reverse"
    costs["reverse"] = UnitCost(0.2, 0.1e-3)  # the fixed cost counts too
    assert tj.plan_jacobian(net, x).mode == "forward"


def stencil(x):
    return torch.stack([x * x.roll(1), x.roll(-1) * x]).sum(0)


@pytest.mark.parametrize(("ratio", "mode"), [(0.2, "reverse"), (5.0, "forward")])
def test_colored_products_are_weighed_by_what_they_cost(costs, ratio, mode):
    costs["reverse"] = UnitCost(0, ratio * 1e-3)
    x = torch.rand(30_000)
    plan = tj.plan_jacobian(stencil, x)
    assert plan.mode == mode
    lost = "colored forward" if mode == "reverse" else "colored reverse"
    assert "cannot win" in next(c.products for c in plan.prepared.choice.candidates if c.name == lost)


def test_products_of_both_directions_are_taken_where_they_save_much(costs):
    def arrow(x):
        return torch.cat([x.square().sum()[None], x[1:] * x[0]])

    x = torch.rand(20_000)
    plan = tj.plan_jacobian(arrow, x)
    assert (plan.mode, plan.num_products, chosen(plan)) == ("bidirectional", 3, ["bidirectional"])


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.usefixtures("no_clock")
def test_a_mode_that_is_asked_for_is_not_timed(mode):
    net, x = network(300, 32, 300), torch.rand(300).double()
    plan = tj.plan_jacobian(net, x, mode=mode)
    assert (plan.mode, plan.prepared.choice.why) == (mode, "asked for")
    assert_close(plan(x), dense_jacobian(net, (x,)))


def test_timing_leaves_the_random_state_alone_and_runs_on_the_callers_numbers(monkeypatch):
    timed, unit_cost = [], Side.unit_cost
    monkeypatch.setattr(Side, "unit_cost", lambda self, args: timed.append(args[0]) or unit_cost(self, args))
    dropout = nn.Dropout(0.5)

    def f(x):
        return dropout(network_(x))

    network_ = network(300, 32, 300)
    x, before = torch.rand(300).double(), torch.get_rng_state()
    tj.plan_jacobian(f, x)
    assert torch.equal(before, torch.get_rng_state())
    assert len(timed) == 2  # both directions
    assert all(torch.equal(numbers, x) for numbers in timed)


def test_unit_costs_are_a_line_through_one_and_a_few(monkeypatch):
    import torchjac._products.seeded as side

    sizes = []
    plan = tj.plan_jacobian(network(40, 40), torch.rand(40).double(), mode="reverse")
    first = plan.prepared.strategy.sides[0]
    monkeypatch.setattr(first, "first", lambda args, size: sizes.append(size))
    monkeypatch.setattr(side, "seconds_of", lambda run: (run(), 0.004 + 0.001 * sizes[-1])[1])
    assert first.unit_cost(()) == UnitCost(pytest.approx(0.004), pytest.approx(0.001))
    assert sizes == [1, 1, 20]
    assert UnitCost(0.5, 0.25).of(2) == 1
    assert UnitCost(0.5, 0.25).of(0) == 0
