"""Small functions with their exact sparsity patterns, written down by hand: what every test of the whole walks over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from oracles import Argnums, selected
from torch.nn import functional as F


@dataclass(frozen=True)
class Case:
    """``pattern`` is the (m, n) boolean truth; ``smooth``: J can be differentiated and depends on x."""

    name: str
    f: Callable[..., Any]
    args: tuple[Any, ...]
    pattern: np.ndarray
    argnums: Argnums = 0
    smooth: bool = True
    forward: bool = True  # whether mode="forward" exists

    @property
    def inputs(self) -> list[Any]:
        return selected(self.args, self.argnums)

    def __str__(self) -> str:
        return self.name


_generator = torch.Generator().manual_seed(0)


def numbers(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Normal numbers away from zero."""
    t = torch.randn(shape, generator=_generator, dtype=dtype)
    return t + 0.1 * t.sign()


def bands(m: int, n: int, *offsets: int) -> np.ndarray:
    """Diagonals j - i of ``offsets``."""
    return np.isin(np.subtract.outer(np.arange(m), np.arange(n)), [-o for o in offsets])


def periodic(n: int, *offsets: int) -> np.ndarray:
    """out[i] reads in[(i + o) % n]."""
    return sum(np.roll(np.eye(n, dtype=bool), o, 1) for o in offsets) > 0


def entries(m: int, n: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    out = np.zeros((m, n), bool)
    out[tuple(zip(*pairs, strict=True))] = True
    return out


class CubeWithContext(torch.autograd.Function):
    """x^3 the new way: works under torch.func, forward and reverse."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g

    @staticmethod
    def jvp(ctx, t):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * t


class CubeTheOldWay(torch.autograd.Function):
    """x^3 without setup_context: torch.func refuses it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


class RoundStraightThrough(torch.autograd.Function):
    """round(x) with the derivative of the identity."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, g):
        return g


def recurrence(x):
    """Element by element into a fresh tensor."""
    y = torch.zeros_like(x)
    y[0] = x[0] ** 2
    for i in range(1, x.numel()):
        y[i] = x[i] * x[i - 1] + (y[i - 2] if i >= 2 and i % 2 == 0 else 0)
    return y


def overwrite_own_input(x):
    x[1:] = x[:-1].clone() ** 2
    x.view(2, -1)[1] += 1
    return x * x


def write_into_views(x):
    y = torch.zeros(2, 3, dtype=x.dtype)
    y.view(-1)[1:4] = x[:3] ** 2
    y.t()[2].add_(x[3] * x[0])
    return y


CORNERS = torch.tensor([[0, 1, 2], [2, 1, 3], [2, 3, 4]])


def assembly(u):
    """Each element multiplies its corners and adds the product to all of them."""
    product = u[CORNERS].prod(1, keepdim=True).expand(3, 3)
    return torch.zeros_like(u).index_add(0, CORNERS.reshape(-1), product.reshape(-1))


def assembly_pattern() -> np.ndarray:
    return entries(5, 5, [(int(i), int(j)) for element in CORNERS for i in element for j in element])


def branches(p):
    """A tree in, a tree out."""
    return {"sum": p["a"] * p["b"][0], "square": (p["b"][1] ** 2, p["a"][:1].exp())}


def pad_and_multiply(x, w):
    return F.pad(x, (1, 1))[2:] * w * x


WEIGHT = numbers(4, 3)
MLP = (numbers(5, 3), numbers(4, 5))
STENCIL = numbers(1, 1, 3)

CASES = [
    Case("pointwise", lambda x: x.sin() * x, (numbers(6),), np.eye(6, dtype=bool)),
    Case("bidiagonal", lambda x: x[1:] * x[:-1], (numbers(7),), bands(6, 7, 0, 1)),
    Case("periodic", lambda x: x * x.roll(1) - x.roll(-1) ** 2, (numbers(9),), periodic(9, 0, -1, 1)),
    Case("float32", lambda x: x * x.roll(1), (numbers(8, dtype=torch.float32),), periodic(8, 0, -1)),
    Case("mixed dtypes", lambda x: (x * x.roll(1)).double(), (numbers(8, dtype=torch.float32),), periodic(8, 0, -1)),
    Case("one number", lambda x: x * x, (numbers(),), np.ones((1, 1), bool)),
    Case("one element", lambda x: x.exp(), (numbers(1),), np.ones((1, 1), bool)),
    Case("to a number", lambda x: (x * x).sum(), (numbers(2, 3),), np.ones((1, 6), bool)),
    Case("from a number", lambda x: x * x * torch.arange(1.0, 4, dtype=x.dtype), (numbers(),), np.ones((3, 1), bool)),
    Case("dense", lambda x: torch.tanh(WEIGHT @ x), (numbers(3),), np.ones((4, 3), bool)),
    Case(
        "tall",
        lambda x: torch.cat([x * x, x.cos(), x.roll(1) ** 3]),
        (numbers(4),),
        np.vstack([np.eye(4), np.eye(4), periodic(4, -1)]) > 0,
    ),
    Case(
        "empty rows",
        lambda x: torch.stack([x[0] ** 2, x[1].detach(), torch.ones((), dtype=x.dtype), x[2].sin()]),
        (numbers(3),),
        entries(4, 3, [(0, 0), (3, 2)]),
    ),
    Case("empty columns", lambda x: x[:2] ** 2, (numbers(5),), bands(2, 5, 0)),
    Case("constant", lambda x: torch.ones(3, dtype=x.dtype), (numbers(2),), np.zeros((3, 2), bool), smooth=False),
    Case("no outputs", lambda x: x[:0] * 2, (numbers(3),), np.zeros((0, 3), bool), smooth=False),
    Case("identity", lambda x: x, (numbers(2, 2),), np.eye(4, dtype=bool), smooth=False),
    Case("linear", lambda x: 2 * x + x.flip(0), (numbers(4),), np.eye(4) + np.eye(4)[::-1] > 0, smooth=False),
    Case("zero times", lambda x: 0 * x.roll(1) ** 2 + x**2, (numbers(4),), periodic(4, 0, -1)),
    Case("detach", lambda x: x.detach().roll(1) * x**2, (numbers(5),), np.eye(5, dtype=bool)),
    Case("setup_context", lambda x: CubeWithContext.apply(x) * x.roll(1), (numbers(5),), periodic(5, 0, -1)),
    Case(
        "without setup_context",
        lambda x: CubeTheOldWay.apply(x) * x.roll(1),
        (numbers(5),),
        periodic(5, 0, -1),
        forward=False,
    ),
    Case(
        "straight through",
        lambda x: RoundStraightThrough.apply(3 * x) * x,
        (numbers(5),),
        np.eye(5, dtype=bool),
        forward=False,
    ),
    Case(
        "loop",
        recurrence,
        (numbers(6),),
        entries(
            6,
            6,
            [
                (0, 0),
                (1, 1),
                (1, 0),
                (2, 2),
                (2, 1),
                (2, 0),
                (3, 3),
                (3, 2),
                (4, 4),
                (4, 3),
                (4, 2),
                (4, 1),
                (4, 0),
                (5, 5),
                (5, 4),
            ],
        ),
    ),
    Case(
        "into views",
        write_into_views,
        (numbers(4),),
        entries(6, 4, [(1, 0), (2, 1), (3, 2), (2, 3), (2, 0), (5, 3), (5, 0)]),
    ),
    Case(
        "into its input",
        overwrite_own_input,
        (numbers(6),),
        entries(6, 6, [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (5, 4)]),
    ),
    Case("assembly", assembly, (numbers(5),), assembly_pattern()),
    Case(
        "conv1d",
        lambda x: F.conv1d(x, STENCIL, padding=1) ** 2,
        (numbers(2, 1, 6),),
        np.kron(np.eye(2), bands(6, 6, -1, 0, 1)) > 0,
    ),
    Case(
        "MLP over a batch",
        lambda x: torch.tanh(x @ MLP[0].T) @ MLP[1].T,
        (numbers(6, 3),),
        np.kron(np.eye(6), np.ones((4, 3))) > 0,
    ),
    Case("mask by value", lambda x: torch.where(x > 0, x**2, x.roll(1) ** 3), (numbers(6),), periodic(6, 0, -1)),
    Case(
        "two inputs", pad_and_multiply, (numbers(4), numbers(4)), np.hstack([bands(4, 4, 0, 1), np.eye(4)]) > 0, (0, 1)
    ),
    Case("second input", pad_and_multiply, (numbers(4), numbers(4)), np.eye(4, dtype=bool), 1, smooth=False),
    Case(
        "swapped inputs",
        pad_and_multiply,
        (numbers(4), numbers(4)),
        np.hstack([np.eye(4), bands(4, 4, 0, 1)]) > 0,
        (1, 0),
    ),
    Case("last input", lambda k, flag, x: x.roll(k) ** 2 if flag else x, (2, True, numbers(5)), periodic(5, -2), -1),
    Case(
        "trees",
        branches,
        ({"a": numbers(3), "b": [numbers(3), numbers(2)]},),
        entries(6, 8, [(0, 0), (0, 3), (1, 1), (1, 4), (2, 2), (2, 5), (3, 6), (4, 7), (5, 0)]),
    ),
    Case(
        "several outputs",
        lambda x: (x**2, [x[:1] * x[1:]]),
        (numbers(3),),
        entries(5, 3, [(0, 0), (1, 1), (2, 2), (3, 0), (3, 1), (4, 0), (4, 2)]),
    ),
]
