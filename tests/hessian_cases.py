"""Scalar functions with Hessians worth a look, and neighbours for particles: what tests of Hessians walk over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Energy:
    """``nnz``: the entries of its Hessian, counted by hand; None where dense values at many points must tell."""

    name: str
    f: Callable[..., torch.Tensor]
    x: torch.Tensor
    nnz: int | None = None
    smooth: bool = True  # third derivatives exist everywhere, and depend on x
    reference: Callable[..., torch.Tensor] | None = None  # f in ops whose third derivatives PyTorch gets right

    def __str__(self) -> str:
        return self.name


_generator = torch.Generator().manual_seed(1)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=_generator, dtype=torch.float64)


def rosenbrock(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def arrowhead(x):
    return (x[0] ** 2 * x[1:].cos()).sum() + (x**4).sum()


def hexagon(x):
    return x[0] * (x[3] + x[4]) + x[1] * (x[3] + x[5]) + x[2] * (x[4] + x[5])


def minimal_surface(u):
    """Area of a surface over a grid, each cell as two triangles' mean."""
    a, b = u[1:, 1:] - u[:-1, :-1], u[1:, :-1] - u[:-1, 1:]
    return (1 + (a * a + b * b) / 2).sqrt().sum()


def particles(count: int, cutoff: float = 1.9) -> tuple[torch.Tensor, torch.Tensor]:
    """(positions on a disturbed lattice (count, 3), pairs closer than the cutoff (2, pairs))."""
    side = round(count ** (1 / 3) + 0.499)
    grid = torch.cartesian_prod(*[torch.arange(side, dtype=torch.float64)] * 3)[:count] * 1.1
    x = grid + 0.05 * numbers(count, 3)
    return x, torch.triu(torch.cdist(x, x) < cutoff, 1).nonzero().T


POSITIONS, PAIRS = particles(30)


def lennard_jones(x):
    d = x[PAIRS[0]] - x[PAIRS[1]]
    s = 1 / (d * d).sum(1) ** 3
    return (4 * (s * s - s)).sum()


LAYERS = numbers(5, 2), numbers(1, 5)


def neural_energy(x):
    """A small network on each pair of neighbours in a chain."""
    pairs = torch.stack([x[1:], x[:-1]], 1)
    return (torch.tanh(pairs @ LAYERS[0].T) @ LAYERS[1].T).sum()


def standardised(x):
    """Layer norm by its definition."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / ((centred**2).mean(-1, keepdim=True) + 1e-5).sqrt()


def attention(x):
    return F.scaled_dot_product_attention(x, 2 * x, x.sin()).square().sum()


MATRIX = numbers(3, 3) + 3 * torch.eye(3, dtype=torch.float64)


def solved(x):
    return torch.linalg.solve(MATRIX + torch.diag(x), x**2).square().sum()


ENERGIES = [
    Energy("rosenbrock", rosenbrock, numbers(9), 3 * 9 - 2),
    Energy("arrowhead", arrowhead, numbers(8), 8 + 2 * 7),
    Energy("lennard-jones", lennard_jones, POSITIONS, 9 * (30 + 2 * PAIRS.shape[1])),
    Energy("minimal surface", minimal_surface, numbers(5, 6)),
    Energy("neural energy", neural_energy, numbers(7), 3 * 7 - 2),
    Energy("log-sum-exp", lambda x: x[:3].logsumexp(0), numbers(5), 9),
    Energy("maximum", lambda x: torch.maximum(x[0] * x[1], x[2] ** 2), numbers(3), 3, smooth=False),
    Energy("min and max", lambda x: torch.minimum(x[:3] ** 2, x[3:] ** 3).sum(), numbers(6), 6),
    Energy("clip", lambda x: (x.clip(-0.5, 0.5) * x.roll(1)).sum(), numbers(5), 10, smooth=False),
    Energy("copysign", lambda x: (torch.copysign(x[:3], x[3:]) ** 2 * x[3:]).sum(), numbers(6), 3 + 6, smooth=False),
    Energy("product", lambda x: x.prod(), numbers(4), 12),
    Energy("ratios", lambda x: (x[1:] / x[:-1]).sum(), numbers(5), 4 + 8),
    Energy("linear terms", lambda x: x[0] * 3 + x.sum() + x[1] ** 4, numbers(4), 1),
    Energy("linear", lambda x: x.sum(), numbers(3), 0, smooth=False),
    Energy("constant", lambda x: torch.ones((), dtype=x.dtype), numbers(3), 0, smooth=False),
    Energy("hexagon", hexagon, numbers(6), 12, smooth=False),
    Energy("empty diagonal", lambda x: (x[1:] * x[:-1]).sum(), numbers(6), 10, smooth=False),
    Energy("one number", lambda x: x**3, numbers(), 1),
    Energy("one element", lambda x: (x**3).sum(), numbers(1), 1),
    Energy("dense", lambda x: (MATRIX @ x).tanh().sum(), numbers(3), 9),
    Energy(
        "layer norm",
        lambda x: (F.layer_norm(x, (4,)) ** 3).sum(),
        numbers(3, 4),
        3 * 16,
        reference=lambda x: (standardised(x) ** 3).sum(),
    ),
    Energy(
        "instance norm",
        lambda x: (F.instance_norm(x) ** 3).sum(),
        numbers(2, 2, 3),
        4 * 9,
        reference=lambda x: (standardised(x) ** 3).sum(),
    ),
    Energy(
        "batch norm",
        lambda x: (F.batch_norm(x, None, None, training=True) ** 3).sum(),
        numbers(4, 2),
        2 * 16,
        reference=lambda x: (standardised(x.T) ** 3).sum(),
    ),
    Energy("attention", attention, numbers(2, 3, 2), 2 * 36),
    Energy("solve", solved, numbers(3).abs(), 9),
]
