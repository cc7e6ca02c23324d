"""Compiled values equal eager ones; what cannot be compiled runs eagerly and says so."""

from __future__ import annotations

import shutil

import pytest
import torch

import torchjac as tj
from torchjac import TorchjacWarning
from torchjac._strategies import accumulated
from torchjac._strategies.compiling.compiled import Compiled

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
x = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def stencil(x):
    return x.roll(1) * x - x.roll(-1) ** 2


def compiled(f, *args, mode="reverse"):
    plan = tj.plan_jacobian(f, *args, mode=mode)
    constants = [c for side in plan.prepared.strategy.sides for c in side.constants]
    return plan, Compiled(plan.prepared.strategy.values, args, constants, {})


@needs_compiler
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_compiled_values_are_those_of_the_plan_at_any_input(mode):
    plan, program = compiled(stencil, x, mode=mode)
    for at in (x, x.flip(0) + 1):
        torch.testing.assert_close(program((at,)), plan.values(at), rtol=1e-12, atol=1e-12)
    assert program.regions == 1


@needs_compiler
def test_many_values_are_gathered_in_a_region_of_their_own():
    large = torch.rand(4000, dtype=torch.float64)  # 12,000 values
    plan, program = compiled(stencil, large)
    assert program.regions == 2
    torch.testing.assert_close(program((2 * large,)), plan.values(2 * large), rtol=1e-12, atol=1e-12)


@needs_compiler
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_what_is_expensive_in_f_is_a_region_of_its_own(mode):
    plan, program = compiled(lambda x: (x.sin() * x.roll(1)).exp(), x, mode=mode)
    assert program.regions == 2
    torch.testing.assert_close(program((2 * x,)), plan.values(2 * x), rtol=1e-12, atol=1e-12)


@needs_compiler
def test_other_arguments_are_inputs_of_the_program():
    plan, program = compiled(lambda x, w, i: stencil(x)[i] * w, x, x, torch.arange(50))
    other = (x, 3 * x, torch.arange(50))
    torch.testing.assert_close(program(other), plan.values(*other), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("f", "reason"),
    [(lambda x: x * torch.rand(50), "random numbers"), (lambda x: x * x.sum().item(), "value out of a tracing tensor")],
    ids=["random", "item"],
)
def test_what_cannot_be_compiled_runs_eagerly_and_says_why(f, reason):
    plan = tj.plan_jacobian(f, x, mode="reverse")
    program = Compiled(plan.prepared.strategy.values, (x,), [], {})
    with pytest.warns(TorchjacWarning, match=f"compile=True runs eagerly.*{reason}"):
        program.say()
    torch.manual_seed(0)
    got = program((x,))
    torch.manual_seed(0)
    torch.testing.assert_close(got, plan.values(x))
    assert program.regions == 0


@needs_compiler
@pytest.mark.parametrize("mode", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("check", ["first", False])
def test_a_plan_compiles_on_its_first_call_and_serves_every_x(mode, check):
    eager, plan = (tj.plan_jacobian(stencil, x, mode=mode, compile=c, check=check) for c in (False, True))
    for at in (x, x.flip(0) + 1, 3 * x):
        torch.testing.assert_close(plan.values(at), eager.values(at), rtol=1e-12, atol=1e-12)
    assert plan._evaluator.program.regions == 1


@needs_compiler
def test_gradients_run_eagerly_beside_the_compiled_program():
    plan = tj.plan_jacobian(stencil, x, compile=True)
    plan(x), plan(x)
    y = (2 * x).requires_grad_()
    got = torch.autograd.grad(plan.values(y).square().sum(), y)[0]
    expected = torch.autograd.grad(torch.func.jacrev(stencil)(y).square().sum(), y)[0]
    torch.testing.assert_close(got, expected)
    assert not plan.values(x).requires_grad


@needs_compiler
def test_a_dense_jacobian_compiles():
    W = torch.rand(3, 50, dtype=torch.float64)
    plan = tj.plan_jacobian(lambda x: (W @ x).tanh(), x, compile=True)
    first = plan(x)
    torch.testing.assert_close(plan(x), first, rtol=1e-12, atol=1e-12)


def test_parameters_that_require_grad_keep_the_plan_eager():
    net = torch.nn.Linear(50, 3).double()
    plan = tj.plan_jacobian(net, x, compile=True)
    with pytest.warns(TorchjacWarning, match="parameters that require grad"):
        plan(x)
    assert plan.values(x).requires_grad


def test_an_option_that_is_no_option_is_refused():
    with pytest.raises(tj.OptionError, match="compile='yes'"):
        tj.plan_jacobian(stencil, x, compile="yes")


@needs_compiler
def test_what_was_compiled_without_gradients_gives_them_when_they_are_wanted(products_only):
    net, w = torch.nn.Linear(50, 50).double(), torch.rand(50, dtype=torch.float64)
    plan = tj.plan_jacobian(lambda x, w: net(x) * stencil(x) * w, x, w, compile=True)
    with torch.no_grad(), pytest.warns(TorchjacWarning, match="parameters that require grad"):
        plan(x, w), plan(x, w)
    assert plan._evaluator.program is not None
    w = w.requires_grad_()
    loss = plan.values(x, w).square().sum()
    assert all(g is not None for g in torch.autograd.grad(loss, [w, *net.parameters()], allow_unused=False))


@needs_compiler
def test_programs_of_many_ops_compile_as_one_loop_and_give_the_eager_values(monkeypatch):
    tracings, compile_ = [], torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda graph, **options: (tracings.append(options), compile_(graph, **options))[1]
    )

    def f(x):
        y = x.reshape(-1, 4)
        return torch.stack([(y * k).sin().sum(1) * y[:, k].exp() for k in range(4)], 1)

    at = torch.rand(400, dtype=torch.float64)
    plan = tj.plan_jacobian(f, at, mode="accumulate", compile=True)
    plan.values(at)
    assert 100 < plan.prepared.strategy.program((at,)).ops < 1000
    assert all(options["options"]["max_fusion_size"] > 100 for options in tracings)
    torch._dynamo.utils.counters.clear()
    expected = tj.plan_jacobian(f, at, mode="reverse").values(2 * at)
    torch.testing.assert_close(plan.values(2 * at), expected, rtol=1e-12, atol=1e-12)
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.mark.parametrize(("size", "steps", "regions"), [(12_000, 1, 1), (12_000, 3, 3), (12_000, 12, 1), (50, 3, 1)])
def test_a_region_ends_where_large_computed_tensors_are_shifted(size, steps, regions, monkeypatch):
    def wave(x):
        for _ in range(steps):
            x = x.roll(1).sin() * 2
        return x

    given = []
    monkeypatch.setattr(accumulated, "seconds_of", lambda run: 1.0)  # forward
    monkeypatch.setattr(torch, "compile", lambda graph, **options: (given.append(options), graph)[1])
    at, other = torch.rand(2, size, dtype=torch.float64)
    plan = tj.plan_jacobian(wave, at, mode="accumulate")
    program = Compiled(plan.prepared.strategy.values, (at,), (), {}, plan.prepared.strategy.program((at,)).graph)
    assert (program.regions, len(given)) == (regions, regions)
    assert ("options" in given[0]) == (steps == 12)  # so many regions would take long to compile
    torch.testing.assert_close(program((other,)), plan.values(other), rtol=1e-12, atol=1e-12)


@needs_compiler
def test_zeros_that_pytorch_keeps_without_memory_are_not_read_by_compiled_code(monkeypatch):
    index = torch.tensor([0, 2, 1, 0, 4, 4])

    def f(x):  # the tangent of what index_add starts from is such a tensor
        return torch.zeros(5, dtype=x.dtype).index_add(0, index, x.sin().exp() * x)

    seen, compile_ = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda graph, **o: (seen.append(graph), compile_(graph, **o))[1])
    at = torch.rand(6, dtype=torch.float64)
    for mode in ("forward", "accumulate"):
        plan = tj.plan_jacobian(f, at, mode=mode, compile=True)
        with torch.no_grad():
            plan.values(at)
            torch.testing.assert_close(plan.values(2 * at), tj.plan_jacobian(f, at, mode="reverse").values(2 * at))
    ops = {node.target for graph in seen for node in graph.graph.nodes}
    assert len(seen) >= 2
    assert torch.ops.aten._efficientzerotensor.default not in ops
    assert not any(t._is_zerotensor() for graph in seen for t in graph.buffers())
