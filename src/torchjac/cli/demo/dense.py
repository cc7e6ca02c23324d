"""The peer of the demo: a dense Jacobian by ``torch.func``, at its best."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ..._matrices.pattern import SparsityPattern

Vector = Callable[[torch.Tensor], torch.Tensor]

_TRIAL = 256  # products of one trial: enough to tell ways apart, a small part of the whole


def raveled(f: Callable[..., torch.Tensor], args: tuple[torch.Tensor, ...]) -> tuple[Vector, torch.Tensor]:
    """Return (g, x): f as a function (n,) -> (m,) of all its arguments in one vector, and that vector."""
    sizes = [arg.numel() for arg in args]

    def g(x: torch.Tensor) -> torch.Tensor:
        return f(*(part.reshape(arg.shape) for part, arg in zip(x.split(sizes), args, strict=True))).reshape(-1)

    return g, torch.cat([arg.reshape(-1) for arg in args])


def peak_bytes(m: int, n: int, itemsize: int) -> int:
    """Return the bytes that ``jacrev`` takes: the chunks of the result, and the result they are copied into."""
    return 2 * m * n * itemsize


class DenseWay:
    """The faster of ``jacrev`` and ``jacfwd`` a chunk at a time, for f at args, with the better of two chunks."""

    def __init__(self, f: Callable[..., torch.Tensor], args: tuple[torch.Tensor, ...]) -> None:
        self._g, self._x = raveled(f, args)
        trials = {(way, chunk): self._trial(way, chunk) for way in _WAYS for chunk in (16, 64)}
        self.way, self.chunk = min(trials, key=lambda trial: trials[trial])
        self.seconds = trials[self.way, self.chunk]  # what the whole will take, about

    def __str__(self) -> str:
        if self.way == "jacrev":
            return f"torch.func.jacrev(f, chunk_size={self.chunk})"
        return f"torch.func.jvp under vmap, {self.chunk} columns at a time"

    def __call__(self) -> torch.Tensor:
        """Return the Jacobian, (m, n)."""
        return _WAYS[self.way](self._g, self._x, self.chunk)

    def _trial(self, way: str, chunk: int) -> float:
        """Return the seconds for the whole, from those of a few rows (jacrev) or columns (jacfwd)."""
        g, x, part, at = self._g, self._x, self._g, self._x
        if way == "jacrev":
            whole = g(x).numel()

            def part(x: torch.Tensor) -> torch.Tensor:
                return g(x)[:_TRIAL]
        else:
            whole, at = x.numel(), x[:_TRIAL]

            def part(head: torch.Tensor) -> torch.Tensor:
                return g(torch.cat([head, x[_TRIAL:]]))

        _WAYS[way](part, at, chunk)
        start = time.perf_counter()
        _WAYS[way](part, at, chunk)
        return (time.perf_counter() - start) * whole / min(whole, _TRIAL)


def _jacrev(g: Vector, x: torch.Tensor, chunk: int) -> torch.Tensor:
    jacobian: torch.Tensor = torch.func.jacrev(g, chunk_size=chunk)(x)
    return jacobian


def _jacfwd(g: Vector, x: torch.Tensor, chunk: int) -> torch.Tensor:
    """Return the Jacobian a chunk of columns at a time, which ``torch.func.jacfwd`` cannot: it takes all at once."""
    n = x.numel()

    def push(tangent: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.func.jvp(g, (x,), (tangent,))[1]
        return product

    jacobian = x.new_empty(g(x).numel(), n)
    for start in range(0, n, chunk):
        k = torch.arange(min(chunk, n - start))
        seeds = torch.zeros(len(k), n, dtype=x.dtype)
        seeds[k, start + k] = 1
        jacobian[:, start : start + len(k)] = torch.vmap(push)(seeds).T
    return jacobian


_WAYS: dict[str, Callable[[Vector, torch.Tensor, int], torch.Tensor]] = {"jacrev": _jacrev, "jacfwd": _jacfwd}


def largest_scale(size: Callable[[float], int], budget: int) -> float:
    """Return the largest scale in (0, 1] with ``size(scale) <= budget``, by bisection: size grows with scale."""
    if size(1.0) <= budget:
        return 1.0
    low, high = 0.0, 1.0
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) <= budget else (low, middle)
    return low


def largest_difference(dense: torch.Tensor, pattern: SparsityPattern, values: torch.Tensor) -> float:
    """Return the largest difference to a dense (m, n) matrix, relative to its largest entry. Overwrites ``dense``."""
    flat = dense.view(-1)
    scale = _largest(flat) or 1.0
    places = torch.from_numpy(pattern.rows.astype("int64")) * pattern.shape[1] + pattern.col_indices
    flat[places] -= values
    return _largest(flat) / scale


def _largest(flat: torch.Tensor) -> float:
    """Return the largest absolute value, without a second vector of that size; NaN where there is one."""
    return max(abs(float(bound)) for bound in flat.aminmax())
