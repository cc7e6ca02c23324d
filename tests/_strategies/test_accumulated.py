"""mode="accumulate" in plans: the same values, gradients and errors as products give, and colors where it stops."""

from __future__ import annotations

import re
import shutil
import warnings

import pytest
import torch
from lines import line_of
from opinfo import cases, entries, full_name
from oracles import assert_close, dense_jacobian
from test_opinfo_values import ORACLE_IS_WRONG, difference, in_reals

import torchjac as tj
from torchjac._accumulation.errors import CannotAccumulateError
from torchjac._plan import evaluate, prepare
from torchjac._strategies import accumulated as accumulated_module
from torchjac._strategies.compiling import compiled as compiling
from torchjac.cli.demo.problems import brusselator, generated_bundle


def stencil(x):
    return x * x.roll(1) - x.roll(-1).sin()


def accumulated(f, *args, **options) -> tj.JacobianPlan:
    plan = tj.plan_jacobian(f, *args, mode="accumulate", **options)
    assert (plan.mode, plan.num_products, plan.coloring) == ("accumulate", 0, None)
    return plan


@pytest.mark.parametrize("layout", [torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc])
def test_layouts(layout):
    x = torch.rand(9, dtype=torch.float64)
    J = accumulated(stencil, x, layout=layout)(x)
    assert_close(J if layout is torch.strided else J.to_dense(), dense_jacobian(stencil, (x,)))


def test_several_inputs_and_an_index_among_the_arguments():
    bundle = generated_bundle(6, 20, 60)
    args = (bundle.cameras, bundle.points)
    plan = accumulated(bundle.residuals, *args, argnums=(0, 1), ravel=True)
    assert_close(plan(*args), dense_jacobian(bundle.residuals, args, (0, 1)), 1e-11)

    def pick(x, index):
        return x[index] ** 2 * x[0]

    x, index = torch.rand(5, dtype=torch.float64), torch.tensor([1, 3, 3])
    plan = accumulated(pick, x, index, sparsity=torch.ones(3, 5, dtype=torch.bool))
    for chosen in (index, torch.tensor([4, 0, 2]), index):
        assert_close(plan(x, chosen), dense_jacobian(pick, (x, chosen)))


def test_auto_takes_it_where_it_is_measured_to_be_faster_and_only_there(monkeypatch):
    x = torch.rand(2, 64, 64, dtype=torch.float64)
    monkeypatch.setattr(prepare, "seconds_of", lambda run, than: 1e9)
    assert tj.plan_jacobian(brusselator, x).mode == "accumulate"
    monkeypatch.setattr(prepare, "seconds_of", lambda run, than: 0.0)
    assert tj.plan_jacobian(brusselator, x).mode in ("forward", "reverse")
    monkeypatch.setattr(prepare, "Accumulated", lambda *_: pytest.fail("tried for one evaluation"))
    tj.jacobian(brusselator, x, layout=torch.sparse_csr)


@pytest.fixture
def built(monkeypatch) -> list[tuple[str, str]]:
    """What is built: (direction, "" or why it was given up)."""
    tried, build = [], accumulated_module.build

    def spy(function, args, pattern, direction, *rest):
        try:
            program = build(function, args, pattern, direction, *rest)
        except CannotAccumulateError as error:
            tried.append((direction, error.why))
            raise
        tried.append((direction, ""))
        return program

    monkeypatch.setattr(accumulated_module, "build", spy)
    return tried


def test_one_direction_is_built_where_the_pattern_is_symmetric(built):
    x = torch.rand(9, dtype=torch.float64)
    assert_close(accumulated(stencil, x)(x), dense_jacobian(stencil, (x,)))
    assert built == [("forward", "")]


def test_one_direction_is_built_where_it_carries_few_coefficients(built):
    bundle = generated_bundle(6, 20, 60)
    args = (bundle.cameras, bundle.points)
    plan = accumulated(bundle.residuals, *args, argnums=(0, 1), ravel=True)
    assert built == [("reverse", "")]  # two for each number, where a row has nine
    assert_close(plan(*args), dense_jacobian(bundle.residuals, args, (0, 1)), 1e-11)


def test_the_second_direction_is_given_up_where_it_writes_more_numbers(built, monkeypatch):
    monkeypatch.setattr(accumulated_module, "_WIDER", 100)
    bundle = generated_bundle(6, 20, 60)
    args = (bundle.cameras, bundle.points)
    plan = accumulated(bundle.residuals, *args, argnums=(0, 1), ravel=True)
    (first, done), (second, why) = built
    assert (first, done, second) == ("reverse", "", "forward")
    assert "numbers are written" in why
    assert_close(plan(*args), dense_jacobian(bundle.residuals, args, (0, 1)), 1e-11)


@pytest.mark.parametrize("faster", ["forward", "reverse"])
def test_a_clock_decides_between_two_directions_that_are_about_as_good(built, monkeypatch, faster):
    x = torch.rand(80, dtype=torch.float64)

    def f(x):
        return x[1:] * x[:-1].sin()

    taken = iter({"forward": [1.0, 0.5], "reverse": [0.5, 1.0]}[faster])  # of the reverse program, which is built first
    monkeypatch.setattr(accumulated_module, "seconds_of", lambda run: next(taken))
    plan = accumulated(f, x)
    assert built == [("reverse", ""), ("forward", "")]
    assert str(plan.prepared.strategy).startswith(faster)
    assert_close(plan(x), dense_jacobian(f, (x,)))


def test_where_one_direction_stops_the_other_serves(built):
    x = torch.rand(12, dtype=torch.float64)

    def f(x):
        return x.reshape(4, 3).sort(1).values.reshape(-1)[:10] ** 2

    plan = accumulated(f, x)
    assert [(way, bool(why)) for way, why in built] == [("reverse", True), ("forward", False)]
    assert_close(plan(x), dense_jacobian(f, (x,)))


def test_products_are_looked_for_only_when_somebody_asks(monkeypatch):
    x = torch.rand(9, dtype=torch.float64)
    with monkeypatch.context() as m:
        m.setattr("torchjac._plan.kinds.jacobian.choose", lambda *_, **__: pytest.fail("colored"))
        m.setattr(accumulated_module, "seconds_of", lambda run: pytest.fail("timed"))
        plan = accumulated(stencil, x)
        assert_close(plan(x), dense_jacobian(stencil, (x,)))
    text = plan.explain()
    assert "3 JVPs" in text
    assert plan.explain() == text
    assert (plan.mode, plan.num_products, plan.coloring) == ("accumulate", 0, None)


@pytest.mark.parametrize("eager", ["accumulate", "products"])
@pytest.mark.parametrize("compiled", ["accumulate", "products"])
def test_compiled_auto_keeps_what_is_faster_compiled(monkeypatch, eager, compiled):
    x, other = torch.rand(2, 2, 32, 32, dtype=torch.float64)
    monkeypatch.setattr(prepare, "seconds_of", lambda run, than: 2 * than if eager == "accumulate" else than / 2)
    seconds = iter([0.003, 0.004] if compiled == "accumulate" else [0.004, 0.003])  # of accumulation, of products
    monkeypatch.setattr(evaluate, "seconds_of", lambda run: (run(), next(seconds))[1])
    plan = tj.plan_jacobian(brusselator, x, compile=True)
    assert (plan.mode == "accumulate") == (eager == "accumulate")
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)
        first = plan.values(x)
    expected = tj.plan_jacobian(brusselator, x, mode="reverse")
    assert (plan.mode == "accumulate", plan.coloring is None) == (compiled == "accumulate",) * 2
    for y, values in ((x, first), (x, plan.values(x)), (other, plan.values(other))):
        assert_close(values, expected.values(y))
    assert isinstance(plan._evaluator.program, evaluate.Compiled)
    lines = [line for line in plan.explain().splitlines() if "ms compiled" in line]
    assert [("3.00 ms" in line, "<-- chosen" in line) for line in lines] == [
        (compiled != "accumulate",) * 2,
        (compiled == "accumulate",) * 2,
    ]


@pytest.mark.parametrize("kept", ["accumulate", "products"])
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_rival_that_does_not_compile_is_no_news_unless_it_is_kept(kept, monkeypatch):
    def fails(*args):
        raise RuntimeError("no compiler for products")

    monkeypatch.setattr(compiling, "compile_products", fails)
    x = torch.rand(2000, dtype=torch.float64)
    seconds = iter([0.003, 0.004] if kept == "accumulate" else [0.004, 0.003])
    monkeypatch.setattr(prepare, "seconds_of", lambda run, than: 2 * than)
    monkeypatch.setattr(evaluate, "seconds_of", lambda run: next(seconds))
    plan = tj.plan_jacobian(lambda x: x.roll(1) * x.sin(), x, compile=True)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        plan.values(x)
    assert (plan.mode == "accumulate") == (kept == "accumulate")
    ours = [str(w.message) for w in said if issubclass(w.category, tj.TorchjacWarning)]
    assert ours == ([] if kept == "accumulate" else ["compile=True runs eagerly, because no compiler for products"])


def test_compiled_gradients_are_not_lost_when_products_win(monkeypatch):
    net = torch.nn.Linear(3, 3).double()

    def f(x):
        return net(x).sin() * x

    x = torch.rand(300, 3, dtype=torch.float64)
    monkeypatch.setattr(prepare, "seconds_of", lambda run, than: 2 * than)  # close: both are compiled
    seconds = iter([0.004, 0.003])
    monkeypatch.setattr(evaluate, "seconds_of", lambda run: next(seconds))
    plan = tj.plan_jacobian(f, x, compile=True)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", tj.TorchjacWarning)
        plan.values(x)
    assert plan.mode != "accumulate"
    weight = torch.autograd.grad(plan.values(x).pow(3).sum(), net.weight)[0]
    eager = tj.plan_jacobian(f, x, mode="reverse").values(x)
    assert_close(weight, torch.autograd.grad(eager.pow(3).sum(), net.weight)[0], 1e-10)


def test_compiled_takes_the_direction_whose_values_come_in_order(monkeypatch):
    x = torch.rand(400, dtype=torch.float64)
    monkeypatch.setattr(accumulated_module, "seconds_of", lambda run: next(seconds))
    for compiled, direction in ((True, "forward"), (False, "reverse")):
        seconds = iter([0.1, 1.0])  # of the reverse program, which is built first, and the forward one
        plan = tj.plan_jacobian(lambda x: x[1:-1] * (x[2:] - x[:-2]), x, mode="accumulate", compile=compiled)
        text = plan.explain()
        assert f"accumulate      {direction}" in text


def test_where_it_stops_the_plan_says_so_and_uses_colors():
    x = torch.rand(12, dtype=torch.float64)

    def f(x):
        return x.reshape(-1, 3).cumprod(1).reshape(-1)

    place = f"cumprod at {line_of(f, 1)}: "
    with pytest.warns(tj.TorchjacWarning, match=re.escape(f"uses colors here, because of {place}")):
        plan = tj.plan_jacobian(f, x, mode="accumulate")
    assert (plan.mode, plan.num_products, plan.coloring.num_colors) == ("reverse", 3, 3)
    assert f"stops at {place}" in plan.explain()
    assert_close(plan(x), dense_jacobian(f, (x,)))


def test_a_pattern_that_is_too_small_is_refused_with_the_entry():
    x = torch.rand(5, dtype=torch.float64)
    with pytest.raises(tj.StalePatternError, match=r"output f\(\.\.\.\)\[0\] depends on input args\[0\]\[[14]\]"):
        tj.plan_jacobian(stencil, x, mode="accumulate", sparsity=torch.eye(5, dtype=torch.bool))


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_eager_and_compiled(compiled):
    net = torch.nn.Linear(3, 3).double()

    def f(x):
        return net(x).sin() * x

    x = torch.rand(80, 3, dtype=torch.float64, requires_grad=True)
    plan = accumulated(f, x, compile=compiled)
    with warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)
        plan.values(x)
        got = torch.autograd.grad(plan.values(x).pow(3).sum(), [x, *net.parameters()])
    expected = torch.autograd.grad(dense_jacobian(f, (x,), create_graph=True).pow(3).sum(), [x, *net.parameters()])
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, 1e-10)


def test_compiled_values_follow_x_without_compiling_again():
    x = torch.rand(2, 2, 12, 12, dtype=torch.float64)
    plan = accumulated(brusselator, x[0], compile=True)
    plan.values(x[0])
    torch._dynamo.utils.counters.clear()
    for one in x:
        assert_close(plan.values(one), tj.plan_jacobian(brusselator, one, mode="reverse").values(one))
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_a_batch_of_x():
    x = torch.rand(3, 7, dtype=torch.float64)
    plan = accumulated(stencil, x[0], check=False)
    for got, one in zip(torch.vmap(plan)(x), x, strict=True):
        assert_close(got, dense_jacobian(stencil, (one,)))


def minimal_surface(u):
    a, b = u[1:, 1:] - u[:-1, :-1], u[1:, :-1] - u[:-1, 1:]
    return (1 + (a * a + b * b) / 2).sqrt().sum()


@pytest.mark.parametrize("compiled", [False, True])
def test_of_a_hessian_one_triangle_is_computed(compiled):
    x, other = torch.rand(2, 6, 5, dtype=torch.float64)
    plan = tj.plan_hessian(minimal_surface, x, mode="accumulate", compile=compiled)
    lower = tj.plan_hessian(minimal_surface, x, mode="accumulate", uplo="lower")
    for y in (x, other):
        expected = torch.func.hessian(minimal_surface)(y).reshape(30, 30)
        assert_close(plan(y).reshape(30, 30), expected)
        assert_close(lower(y).reshape(30, 30), expected.tril())
    targets = [str(node.target) for node in plan.prepared.strategy.program((x,)).graph.graph.nodes]
    assert "aten.where.self" not in targets
    assert sum("slice_backward" in target for target in targets) <= 14  # both triangles: 32


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_a_hessian_by_several_inputs_in_either_direction(direction, monkeypatch):
    monkeypatch.setattr(accumulated_module.Accumulated, "_mirrored", False)  # or only the forward program is built
    monkeypatch.setattr(accumulated_module, "seconds_of", lambda run: next(seconds))
    seconds = iter([1.0, 2.0] if direction == "forward" else [2.0, 1.0])  # of the forward program, which is first

    def energy(x, y):
        return (x * y[:-1] ** 2 * x.roll(1)).sum() + (y[1:] / y[:-1]).exp().sum()

    x, y = torch.rand(4, dtype=torch.float64), torch.rand(5, dtype=torch.float64) + 1
    plan = tj.plan_hessian(energy, x, y, argnums=(0, 1), mode="accumulate", ravel=True)
    assert str(plan.prepared.strategy).startswith(direction)
    assert_close(
        plan(x, y), dense_jacobian(lambda z: torch.func.grad(lambda z: energy(z[:4], z[4:]))(z), (torch.cat([x, y]),))
    )


@pytest.mark.parametrize("uplo", ["full", "lower", "upper"])
def test_hessians(uplo):
    def energy(x):
        return ((x[1:] - x[:-1] ** 2) ** 2).sum() + x.exp().sum()

    x = torch.rand(30, dtype=torch.float64)
    plan = tj.plan_hessian(energy, x, mode="accumulate", uplo=uplo)
    expected = torch.func.hessian(energy)(x)
    assert plan.mode == "accumulate"
    assert_close(plan(x), {"full": expected, "lower": expected.tril(), "upper": expected.triu()}[uplo])


def test_a_saved_plan_builds_its_program_again(tmp_path):
    x = torch.rand(9, dtype=torch.float64)
    accumulated(stencil, x).save(tmp_path / "plan.npz")
    plan = tj.load_plan(tmp_path / "plan.npz", stencil)
    assert plan.mode == "accumulate"
    assert_close(plan(x), dense_jacobian(stencil, (x,)))


def test_a_budget_that_the_program_does_not_fit_keeps_products(monkeypatch):
    x = torch.rand(2, 64, 64, dtype=torch.float64)
    monkeypatch.setattr(prepare, "seconds_of", lambda run, than: 1e9)
    for peak, fits in ((10 * 2**20, False), (9 * 2**20, True)):
        monkeypatch.setattr(prepare, "peak_bytes", lambda run, peak=peak: peak)
        assert (tj.plan_jacobian(brusselator, x, memory="9.5MiB").mode == "accumulate") == fits


@pytest.mark.parametrize("op", entries(), ids=full_name)
def test_every_op_is_right_or_uses_colors(op):
    for case in cases(op, samples=1):
        if case.name in ORACLE_IS_WRONG:
            continue
        f, argnums = in_reals(case.f), tuple(range(len(case.leaves)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                plan = tj.plan_jacobian(f, *case.leaves, argnums=argnums, ravel=True, mode="accumulate")
                J = plan(*case.leaves)
            except tj.DerivativeMismatchError:
                continue  # a formula of PyTorch is wrong, and the mode was asked for
            expected = dense_jacobian(f, case.leaves, argnums)
        nowhere = expected.isnan() & ~plan.pattern.to_dense()
        assert difference(J, expected.masked_fill(nowhere, 0)) == "right", case.name


def test_building_a_program_is_given_up_where_it_takes_longer_than_it_could_save(monkeypatch):
    x = torch.rand(2, 64, 64, dtype=torch.float64)
    for name in ("_A_MOMENT", "_CALLS", "_DETECTIONS"):
        monkeypatch.setattr(prepare, name, 0)
    plan = tj.plan_jacobian(brusselator, x)
    assert plan.mode in ("forward", "reverse")
    assert "reading f takes longer than a program for its entries could save" in plan.explain()
    assert tj.plan_jacobian(brusselator, x, mode="accumulate").mode == "accumulate"
