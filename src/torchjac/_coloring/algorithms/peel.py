"""Peeling: removal of the few dense rows and columns of a pattern, which get products of their own.

Coleman, Verma, "The efficient computation of sparse Jacobian matrices using automatic differentiation", SIAM J. Sci.
Comput. 19 (1998), section 3, divides a matrix so. Here the densest line of what is left goes first, a row or a column;
wherever the peeling stops, the rest is colored by columns alone or by rows alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .adjacency import Adjacency
from .buckets import insert, remove
from .graph import Counts, Indices, Pointers
from .numba_kernel import kernel


@dataclass(frozen=True, eq=False)
class Peeling:
    """A peeling: rows and columns in the order they are removed, and the moment when each has no entry left.

    Attributes
    ----------
    sequence: rows and columns (+ num_rows), the densest of what is left first.
    degrees: how many entries each of them still had.
    rank: (num_vertices,), the place in the sequence; its length for the others.
    last: (num_vertices,), the largest rank among the lines it crosses.
    """

    num_rows: int
    sequence: Indices
    degrees: Counts
    rank: Counts
    last: Counts

    def cover(self, peeled: int, side: str) -> tuple[Indices, Indices]:
        """The first ``peeled`` lines, and the columns (or rows) that cover the other entries."""
        number = np.arange(self.rank.size)
        of_side = number >= self.num_rows if side == "column" else number < self.num_rows
        core = np.flatnonzero(of_side & (self.rank >= peeled) & (self.last >= peeled))
        return self.sequence[:peeled], core.astype(np.uint32)

    def stops(self, most: int) -> list[int]:
        """The lengths of the peeling to try: about ``most`` places where the density falls, 0 and all included.

        The most promising first: so many lines peeled, and the densest of those left. A good start makes the others
        give up early, which also keeps the sets of colors small.
        """
        falls = np.flatnonzero(np.diff(self.degrees)) + 1
        picked = falls[np.unique(np.geomspace(1, falls.size, most).astype(int) - 1)] if falls.size else falls
        stops = [0, *picked.tolist(), self.sequence.size]
        left = np.append(self.degrees, 0)
        return sorted(set(stops), key=lambda stop: stop + left[stop])


def peel(graph: Adjacency, rows: bool = True, columns: bool = True) -> Peeling:
    """Peel all lines, or only the rows, or only the columns. O(nnz)."""
    n = graph.num_vertices
    degrees = np.diff(graph.start.view(np.int64)).astype(np.int32)
    head, links = np.full(int(degrees.max(initial=0)) + 1, -1, np.int32), np.full((2, n), -1, np.int32)
    first, stop = (0 if rows else graph.num_rows), (n if columns else graph.num_rows)
    rank, last = np.full((2, n), -1, np.int32)
    sequence, taken = np.empty(n, np.uint32), np.empty(n, np.int32)
    run = _peel.given(4 * graph.neighbors.size)
    count = run(
        graph.start, graph.neighbors, degrees, first, stop, head, links[0], links[1], rank, last, sequence, taken
    )
    return Peeling(graph.num_rows, sequence[:count], taken[:count], rank, last)


@kernel
def _peel(
    start: Pointers,
    neighbors: Indices,
    degrees: Counts,
    first: int,
    stop: int,
    head: Counts,
    following: Counts,
    previous: Counts,
    rank: Counts,
    last: Counts,
    sequence: Indices,
    taken: Counts,
) -> int:
    for v in range(stop - 1, first - 1, -1):
        insert(head, following, previous, v, degrees[v])
    count = 0
    for key in range(head.size - 1, 0, -1):
        while head[key] >= 0:  # nothing ever moves up
            v = int(head[key])
            remove(head, following, previous, v, key)
            sequence[count], taken[count], rank[v] = v, key, count
            count += 1
            for e in range(start[v], start[v + 1]):
                u = neighbors[e]
                if first <= u < stop and rank[u] < 0:
                    remove(head, following, previous, u, degrees[u])
                    degrees[u] -= 1
                    insert(head, following, previous, u, degrees[u])
    for v in range(rank.size):
        if rank[v] < 0:
            rank[v] = count
    for v in range(rank.size):
        for e in range(start[v], start[v + 1]):
            last[v] = max(last[v], rank[neighbors[e]])
    return count
