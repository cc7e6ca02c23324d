"""memory=: what a call takes beside its result."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise

import pytest
import torch
from oracles import assert_close, dense_jacobian
from torch import nn

import torchjac as tj
from torchjac._base.memory import parse_bytes, peak_bytes
from torchjac._strategies.budget import TooSmallError


def mlp(*widths):
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1]).double().requires_grad_(False)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("memory", ["3MiB", "8MiB", 10**9])
@pytest.mark.parametrize("check", ["first", False])
def test_tensors_of_a_call_stay_within_the_budget_and_the_result(mode, memory, check):
    net, x = mlp(256, 256, 256), torch.rand(256).double()
    plan = tj.plan_jacobian(net, x, mode=mode, memory=memory, check=check)
    assert plan.chunk == 256 or memory != 10**9
    peak = peak_bytes(lambda: plan(x))
    assert peak <= parse_bytes(memory) + 256 * 256 * 8
    assert_close(plan(x), dense_jacobian(net, (x,)))


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_budget_that_is_too_small_is_refused_and_the_one_named_works(mode):
    net, x = mlp(64, 300, 64), torch.rand(64).double()
    with pytest.raises(tj.OptionError, match=rf"memory='100B' is too small for this Jacobian by {mode} mode") as caught:
        tj.plan_jacobian(net, x, mode=mode, memory=100)
    least = caught.value.expected.removeprefix("at least ")
    assert f"memory={least!r}" in caught.value.instead
    plan = tj.plan_jacobian(net, x, mode=mode, memory=least)
    assert plan.chunk < 8
    assert_close(plan(x), dense_jacobian(net, (x,)))


def stencil(x):
    return x * x.roll(1) + x.roll(-1).sin()


@pytest.mark.parametrize("mode", ["forward", "reverse", "bidirectional"])
def test_values_take_the_compressed_products_and_themselves_and_a_chunk(mode):
    x = torch.rand(3000, dtype=torch.float64)
    blocks = torch.block_diag(*[torch.ones(20, 20)] * 150).to_sparse_csr()

    def f(x):
        return (x.reshape(150, 20).sum(1, keepdim=True) * x.reshape(150, 20)).reshape(-1)

    plan = tj.plan_jacobian(f, x, mode=mode, sparsity=blocks, check=False)
    for products in [side.products for side in plan.prepared.strategy.sides]:
        products.chunk = 1
    one = sum(side.peak((x,), 1) for side in plan.prepared.strategy.sides)
    compressed = plan.num_products * 3000 * 8
    assert peak_bytes(lambda: plan.values(x)) <= compressed + plan.pattern.nnz * 8 + one


def crossed(x):
    """Dense rows and columns: 20 of each, and a diagonal."""
    head, tail = x[:20], x[20:]
    return torch.cat([(head[:, None] * tail).sum(1), tail * head.sum()])


@pytest.mark.parametrize("memory", ["800KiB", "1MiB", "2MiB", "50MiB"])
def test_products_of_two_directions_share_one_budget(memory):
    x = torch.rand(1000, dtype=torch.float64)
    plan = tj.plan_jacobian(crossed, x, mode="bidirectional", memory=memory, layout=torch.sparse_csr)
    assert len(plan.prepared.strategy.sides) == 2
    assert plan.chunk < plan.num_products / 2 - 1 or memory != "800KiB"
    peak = peak_bytes(lambda: plan.values(x))
    assert peak <= parse_bytes(memory) + plan.pattern.nnz * 8
    assert_close(plan(x).to_dense(), dense_jacobian(crossed, (x,)))


def test_a_budget_that_cannot_join_two_directions_is_refused():
    x = torch.rand(1000, dtype=torch.float64)
    with pytest.raises(tj.OptionError, match="too small for this Jacobian by bidirectional mode") as caught:
        tj.plan_jacobian(crossed, x, mode="bidirectional", memory="500KiB")
    least = caught.value.expected.removeprefix("at least ")
    plan = tj.plan_jacobian(crossed, x, mode="bidirectional", memory=least)
    assert_close(plan(x), dense_jacobian(crossed, (x,)))


def test_auto_leaves_a_direction_that_does_not_fit_for_one_that_does():
    net = nn.Sequential(*[part for _ in range(30) for part in (nn.Linear(300, 300), nn.Tanh())], nn.Linear(300, 200))
    net, x = net.double().requires_grad_(False), torch.rand(300).double()

    def plan(memory, mode="auto"):
        return tj.plan_jacobian(net, x, mode=mode, memory=memory, check=False)

    def least(mode):
        with pytest.raises(tj.OptionError, match="too small") as caught:
            plan(100, mode)
        return parse_bytes(caught.value.expected.removeprefix("at least "))

    forward, reverse = least("forward"), least("reverse")
    assert forward != reverse
    between, winner = (forward + reverse) // 2, "forward" if forward < reverse else "reverse"
    found = plan(between)
    assert found.mode == winner
    assert_close(found(x), dense_jacobian(net, (x,)))
    with pytest.raises(tj.OptionError, match="and by every other") as caught:
        plan(100)
    assert parse_bytes(caught.value.expected.removeprefix("at least ")) == min(forward, reverse)


def test_auto_says_why_it_left_a_direction(monkeypatch):
    import torchjac._plan.kinds.jacobian as module

    def refuse(strategy, function, args, memory, check, once):
        if strategy.mode == "reverse":
            error = TooSmallError("too small")
            error.least = 5
            raise error

    x = torch.rand(3000, dtype=torch.float64)
    assert tj.plan_jacobian(stencil, x).mode == "reverse"
    monkeypatch.setattr(module, "fit_chunks", refuse)
    plan = tj.plan_jacobian(stencil, x, memory="1MiB")
    assert plan.mode == "forward"
    assert "forward mode, reverse mode does not fit the memory" in plan.explain()


def test_a_budget_that_holds_the_products_but_not_the_check_says_so():
    net, x = nn.Sequential(*[nn.Tanh() for _ in range(40)]), torch.rand(2000).double()
    plan = tj.plan_jacobian(net, x, mode="forward", memory="500KiB", check=False, layout=torch.sparse_csr)
    with pytest.raises(tj.OptionError, match="to check the first call") as caught:
        tj.plan_jacobian(net, x, mode="forward", memory="500KiB")
    assert "check=False" in caught.value.instead
    least = caught.value.expected.removeprefix("at least ")
    other = tj.plan_jacobian(net, x, mode="forward", memory=least, layout=torch.sparse_csr)
    assert peak_bytes(lambda: other(x)) <= parse_bytes(least) + 2000 * 8
    assert_close(other(x).to_dense(), plan(x).to_dense())


def test_without_a_budget_large_products_are_measured_and_share_what_is_free(monkeypatch):
    import torchjac._strategies.budget as budget

    net, x = mlp(1024, 512, 1024), torch.rand(1024).double()
    assert tj.plan_jacobian(net, x, mode="reverse", sparsity=None).chunk > 100
    monkeypatch.setattr(budget, "available", lambda device: 4 * 2**20)
    assert 1 <= tj.plan_jacobian(net, x, mode="reverse", sparsity=None).chunk < 60
    monkeypatch.setattr(budget, "available", lambda device: 0)
    assert tj.plan_jacobian(net, x, mode="reverse", sparsity=None).chunk == 1  # and hope


SERVER = """
import os, sys, torch, torchjac as tj
from torch import nn
from torchjac.cli.demo.problems import brusselator

conv = [nn.Conv2d(4, 16, 3, padding=1), nn.Tanh(), nn.Conv2d(16, 32, 3, 2, 1), nn.Tanh(), nn.Flatten()]
PROBLEMS = {
    "mlp": lambda: (nn.Sequential(nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 512)), (512,), torch.strided),
    "conv": lambda: (nn.Sequential(*conv, nn.Linear(32 * 256, 256)), (1, 4, 32, 32), torch.strided),
    "brusselator": lambda: (brusselator, (2, 256, 256), torch.sparse_csr),
}

def resident(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

def measure(name, memory, mode):
    f, x, layout = PROBLEMS[name]()
    f, x = f.double().requires_grad_(False) if isinstance(f, nn.Module) else f, torch.rand(x, dtype=torch.float64)
    for _ in range(2):  # what torch and its kernels load once, and what f itself leaves behind
        f(x)
    for small in (nn.Sequential(nn.Linear(9, 9), nn.Tanh()).double().requires_grad_(False), lambda x: x * x.roll(1)):
        tj.jacobian(small, torch.rand(9, dtype=torch.float64), memory="100MiB", mode=mode, layout=layout)
    plan = tj.plan_jacobian(f, x, memory=memory, mode=mode, layout=layout)
    open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts here
    before = resident("VmRSS")
    J = plan(x)
    grown = resident("VmHWM") - before
    parts = (J,) if layout is torch.strided else (J.values(), J.crow_indices(), J.col_indices())
    return grown, sum(part.nbytes for part in parts)

[getattr(tj, name) for name in dir(tj)]  # everything is imported, and nothing has run: no thread is lost by a fork
for line in sys.stdin:
    if os.fork() == 0:  # a process of its own, with nothing left in it by another measurement
        print(*measure(*line.split()), flush=True)
        os._exit(0)
    if os.wait()[1]:
        print("failed", flush=True)
"""


@pytest.fixture(scope="module")
def growth():
    """The growth of a process by a first call, its check included, and the bytes of the result."""
    with ExitStack() as stack:

        @functools.cache
        def server(**environment):
            command = [sys.executable, "-c", SERVER]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
            started = subprocess.Popen(command, env=os.environ | environment, **pipes)
            stack.enter_context(started)
            stack.callback(started.stdin.close)
            return started

        def measure(problem, memory, mode):
            exact = {"MALLOC_MMAP_THRESHOLD_": "65536"} if parse_bytes(memory) < 10**7 else {}  # see Options.memory
            process = server(**exact)
            process.stdin.write(f"{problem} {memory} {mode}\n")
            return map(int, process.stdout.readline().split())

        yield measure


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("problem", "memory", "mode"),
    [
        *[("mlp", size, mode) for size in ("16MiB", "500MiB") for mode in ("forward", "reverse")],
        ("conv", "32MiB", "reverse"),  # forward would be 4,096 products
        *[("brusselator", "40MiB", mode) for mode in ("forward", "reverse")],
        ("mlp", "1MiB", "reverse"),
        ("mlp", "3MiB", "forward"),
        ("conv", "8MiB", "reverse"),  # at 4 MiB the scratch of its kernels is a tenth of it, now and then more
    ],
)
def test_resident_growth_stays_within_the_budget_a_tenth_and_the_result(problem, memory, mode, growth):
    for _ in range(3):  # the allocator and other threads of the process only ever add: the least growth is the call's
        grown, result = growth(problem, memory, mode)
        if grown <= 1.1 * parse_bytes(memory) + result:
            break
    assert grown <= 1.1 * parse_bytes(memory) + result
