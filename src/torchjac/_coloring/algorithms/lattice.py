"""Lattice colorings of grids: a linear function of the grid point, modulo the number of colors.

No greedy order finds these.

On a stencil a vertex needs another color than those at a few fixed differences. color(x) = (a . x) mod p keeps all of
them apart when a . d is not 0 modulo p for any difference d (Goldfarb, Toint, "Optimal estimation of Jacobian and
Hessian matrices that arise in finite difference calculations", Math. Comp. 43 (1984), section 3: 5 colors for the
5-point stencil, 9 for the 9-point, 7 for the 7-point). For substitution each value of a . d may occur twice: two colors
then meet in paths, never in cycles, so half the neighbors and one color suffice: 3, 5 and 4.

Nothing says that a pattern is a grid, so one is guessed from a few rows: the index as digits of mixed radix, which
makes the differences few. A guess may be wrong; the caller checks the colors against the whole pattern.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ..._base.words import Colors
from .graph import Incidence

Vectors = npt.NDArray[np.int64]

SAMPLE, PAIRS, WIDEST, MOST_CANDIDATES, GUESSES, MOST_WEIGHTS = 48, 2000, 40, 24, 4, 40_000


@dataclass(frozen=True)
class Grid:
    """A grid as a mixed radix: digit k of index v is (v // strides[k]) % sizes[k]; ``periodic`` digits wrap.

    >>> import numpy as np
    >>> Grid((1, 4), (4, 3), (False, False)).digits(np.array([5]))
    array([[1, 1]])
    """

    strides: tuple[int, ...]
    sizes: tuple[int, ...]
    periodic: tuple[bool, ...]

    def digits(self, index: Vectors) -> Vectors:
        """The digits of each index: (len(index), len(strides))."""
        digits: Vectors = index[:, None] // np.array(self.strides) % np.array(self.sizes)
        return digits

    def color(self, weights: Vectors, modulus: int) -> Colors:
        """The color (weights . digits) mod modulus of every index: (n,)."""
        color = np.zeros(1, np.int32)
        for size, weight in zip(self.sizes, weights, strict=True):
            color = (np.arange(size, dtype=np.int32)[:, None] * np.int32(weight) + color).ravel() % np.int32(modulus)
        return color.astype(np.int32)


def lattice_colorings(by_net: Incidence, n: int, bound: int, limit: int, multiplicity: int = 1) -> Iterator[Colors]:
    """Colorings with at least ``bound`` and fewer than ``limit`` colors, fewest first, to be checked by the caller.

    ``multiplicity`` 1 keeps the vertices of a net apart. 2 is for substitution: nets are the neighborhoods of a
    square matrix, and two neighbors of a vertex, but no more, may have one color.
    """
    left, right = _sample(by_net, n, neighbors=multiplicity == 2)
    if not left.size:
        return
    grids = _guesses(left, right, n)
    for modulus in range(bound, limit):
        for grid, differences in grids:
            if modulus ** len(grid.strides) <= MOST_WEIGHTS:
                for weights in _weights(grid, differences, modulus, multiplicity)[:1]:
                    yield grid.color(weights, modulus)


def _sample(by_net: Incidence, n: int, neighbors: bool) -> tuple[Vectors, Vectors]:
    """Pairs of vertices that must differ, from the first, the last and some nets between; none when nets are wide."""
    pointers, vertices = by_net[0].view(np.int64), by_net[1]
    m = pointers.size - 1
    widest = int(np.diff(pointers[: SAMPLE + 1]).max(initial=1))
    count = min(m, SAMPLE, max(PAIRS // widest**2, 12))
    spread = np.linspace(0, m - 1, count).astype(np.int64)
    left, right = [], []
    for row in np.unique(np.concatenate([spread, np.arange(min(m, 2)), np.arange(max(m - 2, 0), m)])):
        net = vertices[pointers[row] : pointers[row + 1]].astype(np.int64)
        if net.size > WIDEST:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        a, b = (np.full(net.size, row), net) if neighbors else (np.repeat(net, net.size), np.tile(net, net.size))
        left.append(a[a != b])
        right.append(b[a != b])
    return (np.concatenate(left), np.concatenate(right)) if left else (np.empty(0, np.int64), np.empty(0, np.int64))


def _guesses(left: Vectors, right: Vectors, n: int) -> list[tuple[Grid, Vectors]]:
    """The few grids in which the vectors ``right - left`` are shortest, each with its distinct vectors."""
    steps = np.unique(np.abs(right - left))
    if steps.size > 4 * WIDEST:
        return []
    near = np.unique(np.concatenate([steps, steps + steps[0]]))
    candidates = [int(s) for s in near if 1 < s < n and n % s == 0][:MOST_CANDIDATES]
    scored = []
    for length in range(4):
        for chain in combinations(candidates, length):
            strides = (1, *chain)
            if not any(b % a for a, b in zip(strides, chain, strict=False)):
                grid, differences = _differences(left, right, strides, n)
                scored.append((int(np.abs(differences).sum()), strides, grid, differences))
    best = sorted(scored, key=lambda s: s[:2])[:GUESSES]
    return [(grid, np.unique(differences, axis=0)) for *_, grid, differences in best]


def _differences(left: Vectors, right: Vectors, strides: tuple[int, ...], n: int) -> tuple[Grid, Vectors]:
    sizes = tuple(b // a for a, b in zip(strides, (*strides[1:], n), strict=True))
    grid = Grid(strides, sizes, (False,) * len(sizes))
    d = grid.digits(right) - grid.digits(left)
    size = np.array(sizes)
    far = (np.abs(d) > size // 2) & (size > 4)
    d -= np.where(far, np.sign(d) * size, 0)
    return Grid(strides, sizes, tuple(bool(f) for f in far.any(axis=0))), d


def _weights(grid: Grid, differences: Vectors, modulus: int, multiplicity: int) -> Vectors:
    """All weights, (count, digits), under which no value of the differences is 0 or occurs too often."""
    ranges = [
        [a for a in range(modulus) if not wraps or a * size % modulus == 0]
        for size, wraps in zip(grid.sizes, grid.periodic, strict=True)
    ]
    weights = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, len(ranges))
    good = np.ones(len(weights), bool)
    for d in differences:  # one at a time: most weights are gone after a few
        good[good] = weights[good] @ d % modulus != 0
    weights = weights[good]
    if multiplicity == 1 or not weights.size:
        return weights
    values = np.sort(weights @ differences.T % modulus, axis=1)
    crowded = (values[:, multiplicity:] == values[:, :-multiplicity]).any(axis=1)
    kept: Vectors = weights[~crowded]
    return kept
