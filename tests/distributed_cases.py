"""What ranks do in tests of ``torchjac.distributed``: run in every process, and return what a test compares."""

from __future__ import annotations

import os
import signal
from typing import Any

import torch
import torch.distributed as dist

import torchjac as tj

F64 = torch.float64


def burgers(u):
    return u * (torch.roll(u, -1) - torch.roll(u, 1)) / 2 + torch.roll(u, -1)


def arrow(x):
    return torch.cat([x[:1] * x.square(), x.square().sum().reshape(1)])


def wide(x):
    return torch.stack([x[:4].sum().sin(), x[3:9].square().sum(), x[8:].prod()])


def few(x):
    return (x[::2] * x[1::2]).reshape(-1, 1)


def layers(n: int, m: int) -> Any:
    weights = torch.linspace(-1, 1, n * m, dtype=F64).reshape(m, n).sin()
    return lambda x: torch.tanh(weights @ x)


def nested(a, b):
    return {"y": a[:, None] * b, "z": (a * a).sum().reshape(1)}


def chained(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def everything(x):
    return x.sin().sum() ** 2


CASES: dict[str, tuple[Any, tuple[int, ...], dict[str, Any]]] = {
    "row colors": (burgers, (12,), {"mode": "reverse"}),
    "column colors": (burgers, (11,), {"mode": "forward", "layout": torch.sparse_csr}),
    "both directions": (arrow, (40,), {"mode": "bidirectional", "layout": torch.sparse_coo}),
    "uneven": (wide, (12,), {"mode": "reverse", "layout": torch.sparse_csr}),
    "one product": (few, (12,), {"mode": "reverse"}),
    "dense rows": (layers(5, 7), (5,), {"mode": "reverse"}),
    "dense columns": (layers(5, 7), (5,), {"mode": "forward"}),
    "dense rows, one": (layers(5, 1), (5,), {"mode": "reverse"}),
    "dense, many": (layers(150, 140), (150,), {"mode": "auto"}),
    "dense, in chunks": (layers(90, 140), (90,), {"mode": "forward", "memory": "110KiB"}),
    "no entries": (lambda x: torch.ones(4, dtype=F64), (5,), {}),
    "a program": (burgers, (11,), {"mode": "accumulate"}),
    "compiled": (burgers, (11,), {"mode": "forward", "compile": {"backend": "aot_eager"}}),
    "two inputs": (nested, (4, 4), {"argnums": (0, 1)}),
    "two inputs, one matrix": (nested, (4, 4), {"argnums": (0, 1), "ravel": True, "layout": torch.sparse_csr}),
}

HESSIANS: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "star": (chained, 9, {"recovery": "direct"}),
    "substitution": (chained, 9, {"recovery": "substitution", "layout": torch.sparse_csr}),
    "lower": (chained, 9, {"uplo": "lower"}),
    "dense": (everything, 7, {}),
    "dense, upper": (everything, 7, {"uplo": "upper", "mode": "reverse"}),
}


def inputs(sizes: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(size, dtype=F64, generator=generator) + 0.5 for size in sizes]


def small_group(size: int) -> Any:
    """A group of the first ranks; None, and nothing to do, on the others."""
    if size == dist.get_world_size():
        return dist.group.WORLD
    group = dist.new_group(list(range(size)))
    return group if dist.get_rank() < size else None


def dense(tree: Any) -> Any:
    def one(t: Any) -> Any:
        return t.to_dense() if t.layout is not torch.strided else t

    return torch.utils._pytree.tree_map(one, tree)


def compare(name: str, size: int, hessian: bool = False) -> Any:
    """(largest error of "all", of the rows, of the sum of the shares; products of each rank; rows of each rank)."""
    group = small_group(size)
    if group is None:
        return None
    if hessian:
        f, n, options = HESSIANS[name]
        args = inputs((n,))
        plan: Any = tj.distributed.plan_hessian(f, *args, group=group, **options)
    else:
        f, sizes, options = CASES[name]
        args = inputs(sizes)
        plan = tj.distributed.plan_jacobian(f, *args, group=group, **options)
    errors = []
    for seed in (1, 2, 3):  # compiled from the second on
        args = inputs(tuple(map(len, args)), seed)
        expected = plan(*args)
        got = tj.distributed.jacobian(plan, *args, group=group)
        pairs = zip(*map(torch.utils._pytree.tree_leaves, (dense(got), dense(expected))), strict=True)
        errors += [float((a - b).abs().max()) if a.numel() else 0.0 for a, b in pairs]
        matrix = plan.matrix(*args).to_dense()
        rows = tj.distributed.jacobian(plan, *args, group=group, gather="rows")
        local = dense(rows.local)
        assert local.shape == (rows.stop - rows.start, matrix.shape[1])
        errors.append(float((local - matrix[rows.start : rows.stop]).abs().sum()))
        share = tj.distributed.jacobian(plan, *args, group=group, gather="none")
        total = share.matrix().to_dense()
        dist.all_reduce(total, group=group)
        errors.append(float((total - matrix).abs().max()) if matrix.numel() else 0.0)
    return max(errors), share.values.numel(), (rows.start, rows.stop)


def as_dtensor(n: int, m: int) -> Any:
    x = inputs((n,))[0]
    plan = tj.distributed.plan_jacobian(layers(n, m), x)
    J = tj.distributed.jacobian(plan, x, gather="rows").to_dtensor()
    return float((J.full_tensor() - plan(x)).abs().max()), float((J.sum().full_tensor() - plan(x).sum()).abs())


def message(run: Any) -> str:
    try:
        run()
    except tj.TorchjacError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


def raises_on(rank: int) -> str:
    def f(x):
        if armed and dist.get_rank() == rank:
            raise ZeroDivisionError("not on this machine")
        return burgers(x)

    armed, x = [], torch.ones(12, dtype=F64)
    plan = tj.distributed.plan_jacobian(f, x)
    tj.distributed.jacobian(plan, x)
    armed.append(True)
    return message(lambda: tj.distributed.jacobian(plan, x))


def refuses_to_plan() -> str:
    return message(lambda: tj.distributed.plan_jacobian(lambda x: int(x.sum()), torch.ones(3)))


def other_arguments() -> str:
    plan = tj.distributed.plan_jacobian(burgers, torch.ones(5, dtype=F64))
    return message(lambda: tj.distributed.jacobian(plan, torch.ones(5, dtype=F64) + dist.get_rank()))


def other_plans() -> str:
    x = torch.ones(5, dtype=F64)
    plan = tj.plan_jacobian(burgers if dist.get_rank() else few_more, x)
    return message(lambda: tj.distributed.jacobian(plan, x))


def few_more(x):
    return x * x


def other_numbers(seeded: bool) -> Any:
    torch.manual_seed(0 if seeded else dist.get_rank())
    x = torch.ones(64, dtype=F64)
    plan = tj.distributed.plan_jacobian(lambda x: torch.dropout(x, 0.5, True), x)
    torch.manual_seed(0 if seeded else dist.get_rank())
    return message(lambda: tj.distributed.jacobian(plan, x))


def stale() -> str:
    pattern = tj.SparsityPattern.from_dense(torch.eye(8, dtype=torch.bool))
    x = inputs((8,))[0]
    plan = tj.distributed.plan_jacobian(burgers, x, sparsity=pattern)
    return message(lambda: tj.distributed.jacobian(plan, x))


class WrongForward(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()

    @staticmethod
    def jvp(ctx, t):
        return t * 2


def wrong_formula() -> str:
    x = inputs((8,))[0]
    plan = tj.distributed.plan_jacobian(WrongForward.apply, x, mode="forward", sparsity=None)
    return message(lambda: tj.distributed.jacobian(plan, x))


def wants_a_gradient() -> str:
    x = inputs((8,))[0].requires_grad_()
    plan = tj.distributed.plan_jacobian(burgers, x.detach())
    return message(lambda: tj.distributed.jacobian(plan, x))


def batch(samples: int) -> Any:
    x = torch.rand(samples, 3, dtype=F64, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor(2.0, dtype=F64)
    run = torch.vmap(torch.func.jacrev(lambda x, s: (s * x.sin()).outer(x)), in_dims=(0, None))
    rows = tj.distributed.over_batch(run, x, scale, gather="rows")
    return float((tj.distributed.over_batch(run, x, scale) - run(x, scale)).abs().max()), len(rows)


def dies(rank: int) -> str:
    def f(x):
        if armed and dist.get_rank() == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return burgers(x)

    armed, x = [], torch.ones(12, dtype=F64)
    plan = tj.distributed.plan_jacobian(f, x)
    tj.distributed.jacobian(plan, x)
    armed.append(True)
    return message(lambda: tj.distributed.jacobian(plan, x))


def writes(path: str, size: int, stop_after: int, n: int, m: int, end: bool = False) -> str:
    """Write a Jacobian with the first ``size`` ranks; the last of them raises, or ends, at so many blocks."""
    group = small_group(size)
    if group is None:
        return "not in the group"
    matrix = layers(n, m)
    calls = [0]

    def f(x):
        calls[0] += 1
        if dist.get_rank() == size - 1 and calls[0] > stop_after:
            if end:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ZeroDivisionError("not now")
        return matrix(x)

    def run() -> None:
        tj.write_jacobian(f, inputs((n,))[0], path=path, memory="38KiB" if n < m else "8KiB", group=group)

    return message(run)


def fully_sharded(mode: str) -> float:
    """Error of the Jacobian of a network whose weights are on three ranks, its products shared in lockstep."""
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    def network():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 7)).double()

    x, net, mesh = inputs((6,))[0], network(), init_device_mesh("cpu", (dist.get_world_size(),))
    fully_shard(net[0], mesh=mesh)
    fully_shard(net, mesh=mesh)
    with torch.no_grad():
        plan = tj.plan_jacobian(lambda x: net(x), x, mode=mode, sparsity=None)
        J = tj.distributed.jacobian(plan, x, lockstep=True)
        return float((J - torch.func.jacrev(network())(x)).abs().max())


def tensor_parallel() -> tuple[float, str]:
    """Error of a plan that every rank runs alike, and what is said where products are shared by the same ranks."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    weights = torch.linspace(-1, 1, 42, dtype=F64).reshape(7, 6).sin()
    parts = distribute_tensor(weights, mesh, [Shard(0)])

    def f(x):
        return torch.tanh(parts @ DTensor.from_local(x, mesh, [Replicate()], run_check=False)).full_tensor()

    x = inputs((6,))[0]
    with torch.no_grad():
        plan = tj.plan_jacobian(f, x, mode="reverse", sparsity=None)
        error = float((plan(x) - torch.func.jacrev(lambda x: torch.tanh(weights @ x))(x)).abs().max())
        return error, message(lambda: tj.distributed.jacobian(plan, x, lockstep=True))
