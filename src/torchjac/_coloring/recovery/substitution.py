"""Recovery by substitution: read the entries that are alone in a product, subtract them elsewhere, and repeat.

Coleman, Cai, "The cyclic coloring problem and estimation of sparse Hessian matrices", SIAM J. Alg. Disc. Meth. 7
(1986), section 3; on acyclic colorings: Gebremedhin, Tarafdar, Pothen, Walther, "Efficient computation of sparse
Hessians using coloring and automatic differentiation", INFORMS J. Comput. 21 (2009), section 4.

All entries of a *level* are solved for at once, so the time is O(nnz) and a few operations for each level. A level is a
step inwards from the leaves of the two-colored trees: a handful on meshes, up to half the length of a grid.
The map from products to values is linear; its transpose, for gradients, runs through the levels backwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from ..._matrices.pattern import SparsityPattern
from ..colors import AcyclicColors, BidirectionalColors
from ..equations import Places, substitution_levels

Step = tuple[torch.Tensor, torch.Tensor]
"""The places to read, and the places where the numbers read are subtracted; the last place stands for nowhere."""

LinearMap = Callable[[torch.Tensor], torch.Tensor]


class Substitution:
    """The linear map from the flattened products of an acyclic coloring to the values of the entries.

    Products are laid end to end as for direct recovery: (num_colors, n) for a symmetric coloring; forward and then
    reverse products for a bidirectional one. Calling it is differentiable, any number of times. ``entries``: of these
    alone, numbered row by row; None for all.
    """

    def __init__(
        self,
        pattern: SparsityPattern,
        coloring: AcyclicColors | BidirectionalColors,
        device: torch.device | str = "cpu",
        entries: Places | None = None,
    ) -> None:
        equations = coloring.equations(pattern)
        levels = substitution_levels(equations, pattern, "an acyclic coloring of this pattern")
        nowhere = equations.size
        self.size = equations.size
        self.levels: list[Step] = [
            (_tensor(level.place, device), _tensor(np.where(level.other < 0, nowhere, level.other), device))
            for level in levels
        ]
        solved = np.concatenate([np.empty(0, np.int64), *(level.unknowns for level in levels)])
        place = np.empty(solved.size, np.int64)
        place[solved] = np.arange(solved.size)
        wanted = equations.unknown if entries is None else equations.unknown[entries]
        self._entry = _tensor(place[wanted], device)

    def __call__(self, products: torch.Tensor) -> torch.Tensor:
        """Values of the entries, row-major, (nnz,), from flattened products (size,)."""
        values: torch.Tensor = _apply(products, self._solve, self._transpose)
        return values.index_select(0, self._entry)

    def _solve(self, products: torch.Tensor) -> torch.Tensor:
        rest = torch.cat([products, products.new_zeros(1)])
        values = []
        for place, other in self.levels:
            values.append(rest.index_select(0, place))
            rest = rest.index_add_(0, other, -values[-1])
        return torch.cat([products.new_zeros(0), *values])

    def _transpose(self, values: torch.Tensor) -> torch.Tensor:
        out = values.new_zeros(self.size + 1)
        parts = values.split([place.numel() for place, _ in self.levels])
        for part, (place, other) in zip(reversed(parts), reversed(self.levels), strict=True):
            out[self.size] = 0
            out = out.index_add_(0, place, part - out.index_select(0, other))
        return out[: self.size]


class _Context(Protocol):
    """The maps that a forward pass leaves for its derivatives."""

    apply_: LinearMap
    transpose: LinearMap


class _Linear(torch.autograd.Function):
    """A linear map whose derivative is itself and whose gradient is its transpose."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: torch.Tensor,
        apply: LinearMap,
        transpose: LinearMap,
    ) -> torch.Tensor:
        return apply(x)

    @staticmethod
    def setup_context(ctx: _Context, inputs: tuple[torch.Tensor, LinearMap, LinearMap], output: torch.Tensor) -> None:
        _, ctx.apply_, ctx.transpose = inputs

    @staticmethod
    def backward(ctx: _Context, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _apply(grad, ctx.transpose, ctx.apply_), None, None

    @staticmethod
    def jvp(ctx: _Context, tangent: torch.Tensor, *_: None) -> torch.Tensor:
        return _apply(tangent, ctx.apply_, ctx.transpose)


def _apply(x: torch.Tensor, apply: LinearMap, transpose: LinearMap) -> torch.Tensor:
    out: torch.Tensor = _Linear.apply(x, apply, transpose)  # type: ignore[no-untyped-call]  # torch has no types here
    return out


def _tensor(places: Places, device: torch.device | str) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(places)).to(device)
