"""The text of plan.explain()."""

from __future__ import annotations

import re

import torch
from lines import line_of

import torchjac as tj
from torchjac._plan import prepare
from torchjac._products.cost import UnitCost
from torchjac._products.seeded import Side
from torchjac._strategies import accumulated


def stencil(x):
    return x * x.roll(1) + x.roll(-1)


def test_all_there_is_to_say():
    text = tj.plan_jacobian(stencil, torch.rand(1200)).explain()
    seconds = re.compile(r"in [\d.e-]+ s")
    assert seconds.sub("in _ s", text).splitlines() == [
        "function  1,200 inputs -> 1,200 outputs",
        "pattern   3,600 entries (0.25% dense), global, detected in _ s",
        "coloring  3 row colors (natural order), which is optimal (lower bound 3), in _ s",
        "products  3 VJPs instead of 1,200, one for each output; all at once; reverse mode, the fewest products",
        "memory    about 0.0412 MiB for seeds, products and values of one call",
        "choice    dense forward   1,200 JVPs",
        "          colored forward 3 JVPs or more, not colored in full: cannot win",
        "          dense reverse   1,200 VJPs",
        "          colored reverse 3 VJPs  <-- chosen",
        "          bidirectional   not colored: 3 are few already",
    ]


def test_what_was_asked_for_and_given():
    x = torch.rand(12)
    pattern = tj.jacobian_sparsity(stencil, x)
    text = tj.plan_jacobian(stencil, x, mode="forward", sparsity=pattern).explain()
    assert "given in" in text
    assert "3 JVPs instead of 12, one for each input; all at once; forward mode, asked for" in text


def test_dense():
    text = tj.plan_jacobian(lambda x: torch.outer(x, x).sum(1), torch.rand(4)).explain()
    assert "coloring  none: every entry can be nonzero" in text
    assert "4 VJPs; all at once" in text


def test_chunks():
    plan = tj.plan_jacobian(stencil, torch.rand(12))
    plan.prepared.strategy.sides[0].products.chunk = 2
    assert "2 at a time" in plan.explain()


def test_nothing_to_compute():
    text = tj.plan_jacobian(lambda x: x[:0], torch.rand(4)).explain()
    assert "0 entries (empty)" in text
    assert "products  0 JVPs instead of 4" in text


def test_notes_name_the_op_and_the_line():
    def f(x):
        y = x * x[0]
        return x * 2 if x.sum() > 0 else y

    (note,) = [row for row in tj.plan_jacobian(f, torch.rand(4)).explain().splitlines() if row.startswith("note ")]
    assert note.startswith("note      item: a value computed from x is read")
    assert note.endswith(f"({line_of(f, 2)})")


def test_predicted_times_and_the_budget(products_only):
    text = tj.plan_jacobian(stencil, torch.rand(12_000), memory="50MiB").explain()
    assert re.search(r"dense forward +12,000 JVPs, [\d.]+ ms predicted\n", text)
    assert re.search(r"colored (reverse|forward) 3 [JV]+Ps, [\d.]+ ms predicted  <-- chosen", text)
    assert "mode, the least predicted time" in text
    assert "values of one call, where 50MiB are allowed" in text


def test_both_directions(products_only, monkeypatch):
    monkeypatch.setattr(Side, "unit_cost", lambda self, args: UnitCost(0, 1e-3))
    x = torch.rand(500)
    text = tj.plan_jacobian(lambda x: torch.cat([x.prod()[None], x[1:] * x[0]]), x).explain()
    assert re.search(r"bidirectional   (2 JVPs, 1|1 JVPs, 2) VJPs, 3.00 ms predicted  <-- chosen", text)
    assert "colored forward 500 JVPs or more, not colored in full: cannot win" in text


def test_what_accumulation_would_cost(monkeypatch):
    monkeypatch.setattr(accumulated, "seconds_of", lambda run: (run(), 0.001)[1])
    monkeypatch.setattr(prepare, "seconds_of", lambda run, than: (run(), 0.002)[1])
    text = tj.plan_jacobian(stencil, torch.rand(12_000)).explain()
    assert re.search(r"colored (reverse|forward) 3 [JV]+Ps, 2.00 ms predicted\n", text)
    assert re.search(r"accumulate      forward, 3 slots, \d+ ops, .*, 1.00 ms predicted  <-- chosen", text)
    assert "none: a program computes the entries themselves, the least measured time" in text
    monkeypatch.setattr(prepare, "seconds_of", lambda run, than: (run(), 0.0005)[1])
    assert re.search(r"0.50 ms predicted  <-- chosen\n", tj.plan_jacobian(stencil, torch.rand(12_000)).explain())


def test_where_accumulation_stops_the_line_is_named():
    def f(x):
        return stencil(x) * x.view(-1, 2).cumprod(1).view(-1)

    stopped = tj.plan_jacobian(f, torch.rand(12_000)).explain()
    assert f"accumulate      stops at cumprod at {line_of(f, 1)}: " in stopped


def test_what_accumulation_and_colors_write_where_it_was_asked_for():
    rows = tj.plan_jacobian(stencil, torch.rand(12), mode="accumulate").explain().splitlines()
    numbers = {
        row[10:25].strip(): int(re.search(r"([\d,]+) numbers written", row)[1].replace(",", "")) for row in rows[5:9]
    }
    (program,) = [row for row in rows if "accumulate " in row]
    assert re.search(r"accumulate +forward, 3 slots, \d+ ops, .*, \d+ numbers written  <-- chosen", program)
    assert numbers["dense forward"] == 4 * numbers["colored forward"] > 0
    assert sum("<-- chosen" in row for row in rows) == 1
    assert any("none: a program computes the entries themselves, asked for" in row for row in rows)


def test_what_colors_of_a_hessian_would_write():
    def energy(x):
        return (x[1:] * x[:-1]).sin().sum()

    text = tj.plan_hessian(energy, torch.rand(12), mode="accumulate").explain()
    assert re.search(r"star +\d HVPs, forward-over-reverse, \d+ numbers written\n", text)
    assert re.search(r"accumulate +forward, .*, \d+ numbers written  <-- chosen", text)
