"""The probe of a plan that has only some of the entries: J^T u is not known then, but its own products are.

Every entry is read from one product. Two things can be wrong with it, and each is looked for with random weights:

- *the product*: all products, with their seeds weighted, are compared with one VJP of plain autograd;
- *what else is in it*: with the seeds weighted, an entry that is alone comes out times its own weight. One that shares
  its place with another (which the pattern does not have) does not.

So a check takes the products of one more evaluation and one VJP; a wrong entry is missed with probability zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .._base.errors import DerivativeMismatchError, StalePatternError
from .._base.random_state import RandomState, random_numbers
from .._base.words import Args
from .._coloring.colors import ColumnColors, RowColors
from .._coloring.recovery.direct import gather_index
from .._function.flat import FlatFunction, on_tensors
from .._function.leaves import place as place_of
from .._matrices.pattern import SparsityPattern
from .._products.reverse import Reverse
from .._products.rounding import close, largest
from .._products.seeded import Side
from .error_bounds import agree, rounding_errors, shifted_args
from .gradient_probe import Combination

Compared = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""What was got, what was expected, and the size of what was added up."""


@dataclass(frozen=True, eq=False)
class Some:
    """The entries of ``pattern``, computed by ``coloring`` on one side, or on none if there are no entries."""

    function: FlatFunction
    pattern: SparsityPattern
    coloring: ColumnColors | RowColors
    sides: list[Side]

    @property
    def count(self) -> int:
        """The number of products."""
        return sum(side.count for side in self.sides)

    @property
    def forward(self) -> bool:
        """Whether columns have colors."""
        return self.coloring.partition == "column"

    @property
    def colors(self) -> torch.Tensor:
        """The color of each column or row, -1 for none."""
        return torch.from_numpy(self.coloring.colors.astype(np.int64)).to(self.function.device)

    @property
    def seeded(self) -> torch.Tensor:
        """The column (forward) or row (reverse) of each entry."""
        places = self.pattern.indices if self.forward else self.pattern.rows
        return torch.from_numpy(places.astype(np.int64)).to(self.function.device)

    @property
    def place(self) -> torch.Tensor:
        """The place of each entry in the flattened products."""
        return torch.from_numpy(gather_index(self.pattern, self.coloring)).to(self.function.device)


def probe_some(
    some: Some,
    reference: FlatFunction,
    args: Args,
    values: torch.Tensor,
    draws: RandomState,
    evaluate: Callable[[Args], torch.Tensor],
) -> None:
    """Raise StalePatternError or DerivativeMismatchError unless ``values`` are the entries of f's Jacobian at ``args``.

    ``reference`` is f by plain autograd alone; ``evaluate(args)`` made the values, on the random numbers ``draws``.
    """
    if not some.sides:
        return
    args = on_tensors(torch.detach, args)
    plain = values.detach()
    function, colors, seeded, place = some.function, some.colors, some.seeded, some.place
    weights = 1 + 0.5 * torch.tanh(random_numbers(colors.numel(), plain, seed=1))  # none is near zero
    u = random_numbers(function.m if some.forward else some.count, plain)

    def products(args: Args) -> torch.Tensor:
        draws.replay()
        return some.sides[0].weighted(args, weights)

    def right(args: Args) -> Compared:
        """Compare the products with one VJP: u.(J s) for each seed, or the sum of all J^T s, each times a number."""
        mine = products(args)
        draws.replay()
        reverse = Reverse(reference, args, plain=True)
        used = colors >= 0
        if some.forward:
            terms = torch.where(used, reverse.one(u) * weights, 0)
            theirs = terms.new_zeros(some.count).index_add(0, colors.clamp_min(0), terms)
            return mine @ u, theirs, mine.abs() @ u.abs() + theirs.abs()
        theirs = reverse.one(torch.where(used, u[colors.clamp_min(0)] * weights, 0))
        return u @ mine, theirs, u.abs() @ mine.abs() + theirs.abs()

    def alone(args: Args) -> Compared:
        """Compare each entry out of weighted products with its weight times its value."""
        draws.replay()
        expected = evaluate(args) * weights[seeded]
        got = products(args).reshape(-1)[place]
        return got, expected, got.abs() + expected.abs()

    with draws.again(), torch.no_grad():
        if (off := _off(right, some, args)) is not None:
            raise DerivativeMismatchError(
                f"a product with all seeds of a color is {off[0]:.6g}",
                expected=f"{off[1]:.6g}, from one product of torch.autograd.grad",
                why="f is not the same from call to call (random numbers? state?), or a formula of PyTorch is wrong",
                instead="a seeded generator inside f, or mode='reverse', or check=False if you know better",
            )
        if (off := _off(alone, some, args)) is not None:
            entry = int(off[2])
            i, j = int(some.pattern.rows[entry]), int(some.pattern.indices[entry])
            output, other = place_of(function.outputs, i), place_of(function.inputs, j)
            line = "row" if some.forward else "column"
            error = StalePatternError(
                f"d output {output} / d input {other} shares its product with "
                f"another entry of its {line}, which the pattern does not have",
                expected="a pattern with every entry that can be nonzero, of which entries= names some",
                why="the pattern was given by hand, or traced where f took another branch (scope 'local')",
                instead="plan_jacobian(f, *args) again at these inputs, or a larger pattern in sparsity=",
            )
            error.entry = i, j
            raise error


def _off(compare: Callable[[Args], Compared], some: Some, args: Args) -> tuple[float, ...] | None:
    """Return (got, expected, where) of the worst number that is off by more than rounding; None where none is."""
    got, expected, scale = compare(args)
    if agree(got, expected, scale):
        return None
    again = torch.stack(compare(args)[:2])
    here = torch.stack([got, expected])
    moved = torch.stack([torch.stack(compare(shifted_args(some.function, args, seed))[:2]) for seed in range(3)])
    outputs = Reverse(some.function, args, plain=True).value.abs()
    floor = rounding_errors(here, moved, largest(outputs).expand_as(got), some.function.leaves(args))
    if agree(again, here, scale) and agree(got, expected, scale, floor):
        return None
    worst = int(torch.where(close(got, expected, scale, floor), -1, (got - expected).abs()).argmax())
    return got[worst].item(), expected[worst].item(), worst


def some_entries(some: Some) -> Combination:
    """Return a weighted sum of the entries, for ``probe_gradient``: one VJP a color."""
    function, colors, seeded = some.function, some.colors, some.seeded
    other = some.pattern.rows if some.forward else some.pattern.indices
    across = torch.from_numpy(other.astype(np.int64)).to(function.device)
    width = function.m if some.forward else function.n

    def theirs(product: Reverse, weights: torch.Tensor) -> torch.Tensor:
        total = weights.new_zeros(())
        for color in range(some.count):
            seed = (colors == color).to(weights.dtype)
            mine = torch.where(colors[seeded] == color, weights, 0)
            at_entries = weights.new_zeros(width).index_add(0, across, mine)
            u, v = (at_entries, seed) if some.forward else (seed, at_entries)
            total = total + (product.one(u) * v).sum()
        return total

    return Combination(some.pattern.nnz, lambda values, weights: (values, weights), theirs)
