"""The origin of entries: the chain of ops behind one entry, and the lines that added most entries.

Both run the function again, with a reading that keeps other things than index sets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch

from .._base.words import Args
from .._function.flat import FlatFunction
from .._matrices.notes import Cost, Step
from .._tangent.reading import Reading
from .._tangent.relations import Along, Ids, Window
from .follow import backward, forward
from .index_sets import IndexSets


class Provenance:
    """The origins of entries of ``function``, traced at ``args`` by rows (forward) or by columns (backward)."""

    def __init__(self, function: FlatFunction, args: Args, by_rows: bool) -> None:
        self._function, self._args, self._by_rows = function, args, by_rows

    def why(self, i: int, j: int) -> list[Step]:
        """Return the ops on one way from input j to output i, in the order in which f runs them."""
        paths = Paths()
        start, end = (j, i) if self._by_rows else (i, j)
        reached = self._follow(lambda: paths, lambda size: _one_hot(start, size))
        steps = paths.chain(int(reached[end]))
        return steps if self._by_rows else steps[::-1]

    def costs(self) -> list[Cost]:
        """Return the entries that each line of f added, the most first."""
        made: list[CountedSets] = []

        def make(size: int) -> CountedSets:
            made.append(CountedSets(size))
            return made[0]

        self._follow(lambda: make(self._function.n if self._by_rows else self._function.m), _all)
        added = made[0].added
        return sorted((Cost(line, op, n) for (line, op), n in added.items()), key=lambda cost: -cost.nonzeros)

    def _follow(self, reading: Callable[[], Reading], seeds: Callable[[int], Ids]) -> Ids:
        function, args = self._function, self._args
        if self._by_rows:
            return forward(function, args, reading(), seeds(function.n))[0]
        return backward(function, args, reading, lambda: seeds(function.m))[0]


def _all(size: int) -> Ids:
    return torch.arange(1, size + 1)


def _one_hot(place: int, size: int) -> Ids:
    ids = torch.zeros(size, dtype=torch.int64)
    ids[place] = 1
    return ids


class CountedSets(IndexSets):
    """Index sets that count what each line of the traced function adds to them."""

    curious = True

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.added: dict[tuple[str, str], int] = defaultdict(int)

    def arrive(self, op: str, line: str, before: list[Ids], ids: Ids) -> Ids:
        """Count the entries of the result beyond those of its largest operand."""
        most = max((self.entries(b) for b in before), default=0)
        more = self.entries(ids) - most
        if more > 0:
            self.added[line, op] += more
        return ids


class Paths:
    """A ``Reading`` of ways from one element: an id is the last step of one way, 1 is the element itself."""

    curious = True

    def __init__(self) -> None:
        self._steps: list[tuple[int, Step]] = []

    def chain(self, last: int) -> list[Step]:
        """Return the steps up to ``last``; equal steps in a row are one."""
        steps: list[Step] = []
        while last > 1:
            last, step = self._steps[last - 2]
            if not steps or steps[-1] != step:
                steps.append(step)
        return steps[::-1]

    def arrive(self, op: str, line: str, before: list[Ids], ids: Ids) -> Ids:
        """Add a step by ``op`` at ``line`` to every way."""
        parents, inverse = torch.unique(ids, return_inverse=True)
        names = torch.zeros_like(parents)
        for k, parent in enumerate(parents.tolist()):
            if parent:
                self._steps.append((parent, Step(op, line)))
                names[k] = len(self._steps) + 1
        return names[inverse]

    def tidy(self, live: Callable[[], list[Ids]]) -> None:
        """Keep all steps: they are few."""

    def entries(self, ids: Ids) -> int:
        """Return 0: for one element there is nothing to count."""
        return 0

    def union(self, a: Ids, b: Ids) -> Ids:
        """Keep any one way to each element: that of ``a``, if there is one."""
        return torch.where(a != 0, a, b)

    def reduce(self, ids: Ids, dims: Sequence[int]) -> Ids:
        """Keep any one way over ``dims``."""
        return ids.amax(tuple(dims), keepdim=True)

    def mix(self, ids: Ids, dim: int, along: Along) -> Ids:
        """Keep any one way to each place along ``dim``."""
        if isinstance(along, Window):
            moved = ids.movedim(dim, -1)
            out = moved.new_zeros(*moved.shape[:-1], along.starts.numel() - 1)
            target = along.out.expand(*moved.shape[:-1], -1)
            return out.scatter_reduce(-1, target, moved[..., along.places], "amax").movedim(-1, dim)
        if along == "all":
            return ids.amax(dim, keepdim=True).expand(ids.shape)
        if along == "suffix":
            return ids.flip(dim).cummax(dim).values.flip(dim)
        return ids.cummax(dim).values if along == "prefix" else ids

    def collect(self, ids: Ids, target: torch.Tensor, size: int) -> Ids:
        """Keep any one way to each target."""
        place, source = target.reshape(-1), ids.reshape(-1)
        kept = place >= 0
        return source.new_zeros(size).scatter_reduce(0, place[kept], source[kept], "amax")
