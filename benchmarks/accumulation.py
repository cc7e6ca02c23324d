"""Direct accumulation beside colored products, eager and compiled, f itself, and Jacobians written by hand.

python benchmarks/run.py accumulation --threads 1
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch._inductor.config
from hessian import minimal_surface, rosenbrock
from timing import interleaved

import torchjac as tj
from torchjac.cli.demo.problems import brusselator, burgers, generated_bundle, mesh_assembly


def main(quick: bool) -> dict[str, Any]:
    bundle = generated_bundle(*((4, 20, 60) if quick else (60, 20_000, 83_718)))
    poses, graph = pose_graph(*((4, 7) if quick else (50, 99)))
    heights = torch.rand(6**2 if quick else 160**2, dtype=torch.float64)
    wave = torch.rand(64 if quick else 262_144, dtype=torch.float64)
    surface, chain = torch.rand(2, 8, 8, dtype=torch.float64)[0], torch.rand(16, dtype=torch.float64)
    if not quick:
        surface, chain = torch.rand(256, 256, dtype=torch.float64), torch.rand(100_000, dtype=torch.float64)
    field = torch.rand(*((8, 8) if quick else (128, 128)), dtype=torch.float64)
    jacobian: dict[str, Any] = {}
    for side in (6,) if quick else (256, 512):
        jacobian[f"brusselator {side}"] = (brusselator, (torch.rand(2, side, side, dtype=torch.float64),), "forward")
    jacobian |= {
        "bundle": (bundle.residuals, (bundle.cameras, bundle.points), "forward"),
        "mesh": (mesh_assembly(6 if quick else 160), (heights,), "reverse"),
        "pose graph": (graph, (poses,), "forward"),
        "burgers, conv1d": (burgers, (wave,), "forward"),
        "burgers, slices": (burgers_by_slices, (wave,), "forward"),
        "convolution and pool": (convolved, (field,), "reverse"),
        "stencil in place": (stencil_in_place, (field,), "forward"),
    }
    hessian: dict[str, Any] = {
        "minimal surface, Hessian": (minimal_surface, (surface,), "auto"),
        "rosenbrock, Hessian": (rosenbrock, (chain,), "auto"),
    }
    out = {name: _compare(tj.plan_jacobian, *problem, quick=quick) for name, problem in jacobian.items()}
    return out | {name: _compare(tj.plan_hessian, *problem, quick=quick) for name, problem in hessian.items()}


def burgers_by_slices(u: torch.Tensor) -> torch.Tensor:
    """As ``burgers``, by slices of a padded vector."""
    h = 1 / (u.numel() + 1)
    padded = torch.nn.functional.pad(u, (1, 1))
    left, right = padded[:-2], padded[2:]
    return 0.01 * (left - 2 * u + right) / h**2 - u * (right - left) / (2 * h)


def convolved(u: torch.Tensor) -> torch.Tensor:
    """Diffusion by a convolution, a reaction, and a mean over neighbours."""
    kernel = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=u.dtype)[None, None]
    near = torch.nn.functional.conv2d(u[None, None], kernel, padding=1)[0, 0]
    return near * u + u.sin() - torch.nn.functional.avg_pool2d((u * u)[None, None], 3, 1, 1)[0, 0]


def stencil_in_place(u: torch.Tensor) -> torch.Tensor:
    """Diffusion inside, other equations on each side, written into one tensor."""
    out, inside = torch.zeros_like(u), u[1:-1, 1:-1]
    out[1:-1, 1:-1] = (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * inside) * inside
    out[0], out[-1] = u[0] ** 2, u[-1].sin()
    out[1:-1, 0] = u[1:-1, 0] - u[1:-1, 1]
    out[1:-1, -1] = u[1:-1, -1] ** 3
    return out


def pose_graph(length: int, width: int) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """(poses (length * width / 2, 6), residual (E, 6)): neighbours on a grid measure where the other is, in SE(3)."""
    count = length * (width + 1) // 2
    number = torch.arange(count).reshape(length, -1)
    pairs = [(number[:, :-1], number[:, 1:]), (number[:-1], number[1:])]
    i, j = (torch.cat([pair[k].reshape(-1) for pair in pairs]) for k in (0, 1))
    generator = torch.Generator().manual_seed(0)
    poses = torch.rand(count, 6, generator=generator, dtype=torch.float64) + 0.1
    turned, moved = (
        _rotation(torch.rand(i.numel(), 3, generator=generator, dtype=torch.float64)),
        torch.rand(3).double(),
    )

    def residual(poses: torch.Tensor) -> torch.Tensor:
        first, second = poses[i], poses[j]
        back = _rotation(first[:, :3]).mT
        error = turned.mT @ back @ _rotation(second[:, :3])
        twist = torch.stack(
            [error[:, 2, 1] - error[:, 1, 2], error[:, 0, 2] - error[:, 2, 0], error[:, 1, 0] - error[:, 0, 1]], 1
        )
        return torch.cat([twist / 2, (back @ (second[:, 3:] - first[:, 3:])[..., None])[..., 0] - moved], 1)

    return poses, residual


def _rotation(axis_angle: torch.Tensor) -> torch.Tensor:
    """(E, 3) -> (E, 3, 3), by Rodrigues' formula, away from zero."""
    squared = (axis_angle * axis_angle).sum(1)[:, None, None]
    angle = squared.sqrt()
    x, y, z = axis_angle.unbind(1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    return torch.eye(3, dtype=x.dtype) + angle.sin() / angle * cross + (1 - angle.cos()) / squared * (cross @ cross)


def _compare(
    make: Callable[..., Any], f: Any, args: tuple[torch.Tensor, ...], mode: Any, *, quick: bool
) -> dict[str, Any]:
    argnums = tuple(range(len(args))) if len(args) > 1 else 0
    pattern = make(f, *args, argnums=argnums, mode="forward", check=False).pattern

    def plan(mode: Any, compiled: bool) -> Any:
        return make(f, *args, argnums=argnums, mode=mode, compile=compiled, sparsity=pattern, check=False)

    if mode == "auto":  # of a Hessian: the products that are predicted to cost least
        mode = "forward"
    plans = {
        "auto, compiled": plan("auto", True),
        "accumulated, compiled": plan("accumulate", True),
        "colored, compiled": plan(mode, True),
        "accumulated, eager": plan("accumulate", False),
        "colored, eager": plan(mode, False),
    }
    compiling: dict[str, float] = {}
    torch.compile(torch.neg)(torch.ones(1))  # the compiler's own start is not the program's
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", tj.TorchjacWarning)  # a plan that does not compile is no result
        for name, made in plans.items():
            start = time.perf_counter()
            with torch._inductor.config.patch(force_disable_caches=True):
                made.values(*args)
            compiling[name] = time.perf_counter() - start
        runs: dict[str, Callable[[], Any]] = {
            name: lambda made=made: made.values(*args) for name, made in plans.items()
        }
        compiled_f = torch.compile(f, dynamic=False)
        runs["f, compiled"] = lambda: compiled_f(*args)
        if f is brusselator:
            by_hand = torch.compile(brusselator_by_hand, dynamic=False)
            runs["by hand, compiled"] = lambda: by_hand(*args)
        if f is minimal_surface:
            surface_by_hand = minimal_surface_by_hand(pattern, *args[0].shape)
            assert torch.allclose(surface_by_hand(*args), plans["colored, eager"].values(*args))
            runs["by hand, compiled"] = lambda: surface_by_hand(*args)
        times = interleaved(runs, rounds=3 if quick else 15)
        values = {name: made.values(*args) for name, made in plans.items()}
    error = (values["accumulated, compiled"] - values["colored, eager"]).abs().max() / values[
        "colored, eager"
    ].abs().max()
    accumulated = plans["accumulated, eager"]
    return {
        "entries": accumulated.pattern.nnz,
        "auto": plans["auto, compiled"].mode,
        "program": str(accumulated._strategy),
        "products": plans["colored, eager"].num_products,
        "error": float(error),
        "prepare_s": {
            "detection": _detection(make, f, args, argnums),
            "accumulation": accumulated.seconds["accumulation"],
        },
        "first_call_s": compiling,  # nothing compiled is taken from a cache
        "times": times,
    }


def _detection(make: Callable[..., Any], f: Any, args: tuple[torch.Tensor, ...], argnums: Any) -> float:
    find = tj.hessian_sparsity if make is tj.plan_hessian else tj.jacobian_sparsity
    start = time.perf_counter()
    find(f, *args, argnums=argnums)
    return time.perf_counter() - start


def brusselator_by_hand(u: torch.Tensor) -> torch.Tensor:
    """The entries of the Jacobian of ``brusselator``, row by row as they are inside the grid."""
    x, y = u
    scale = float(x.shape[0] - 1) ** 2
    near = torch.full_like(x, scale)
    own = 2 * x * y
    first = torch.stack([near, near, own - 4.4 - 4 * scale, near, near, x * x], -1)
    second = torch.stack([3.4 - own, near, near, -x * x - 4 * scale, near, near], -1)
    return torch.stack([first, second]).reshape(-1)


def minimal_surface_by_hand(pattern: tj.SparsityPattern, height: int, width: int) -> Callable[..., torch.Tensor]:
    """The entries of the Hessian of ``minimal_surface``: cells, then one triangle by neighbours, then all entries."""
    pad = torch.nn.functional.pad

    def cells(u: torch.Tensor) -> tuple[torch.Tensor, ...]:
        a, b = u[1:, 1:] - u[:-1, :-1], u[1:, :-1] - u[:-1, 1:]
        squared = 1 + (a * a + b * b) / 2
        first = squared.rsqrt() / 2
        second = first / (2 * squared)
        return first - a * a * second, first - b * b * second, -a * b * second

    def neighbours(aa: torch.Tensor, bb: torch.Tensor, ab: torch.Tensor) -> torch.Tensor:
        upper, lower, left, right = (0, 1, 0, 1), (1, 0, 1, 0), (0, 1, 1, 0), (1, 0, 0, 1)  # where the cell is
        own = pad(aa, upper) + pad(aa, lower) + pad(bb, right) + pad(bb, left)
        beside, below = pad(ab, upper) + pad(ab, left), -pad(ab, upper) - pad(ab, right)
        return torch.stack([own, beside, -pad(bb, right), below, -pad(aa, upper)]).reshape(-1)

    rows, columns = torch.from_numpy(pattern.rows).long(), pattern.col_indices.long()
    first, second = torch.minimum(rows, columns), torch.maximum(rows, columns)
    kind = torch.zeros(2 * width + 2, dtype=torch.int64)
    kind[torch.tensor([1, width - 1, width, width + 1])] = torch.tensor([1, 2, 3, 4])
    index = kind[second - first] * height * width + first
    compiled = [torch.compile(part, dynamic=False) for part in (cells, neighbours)]
    return lambda u: compiled[1](*compiled[0](u)).index_select(0, index)
