"""Buckets of vertices with one integer key, as doubly linked lists: every operation is O(1).

Matula, Beck, "Smallest-last ordering and clustering and graph coloring algorithms", JACM 30 (1983), section 2.
``head`` (keys,) is the first vertex of each bucket, ``next`` and ``previous`` (vertices,) its neighbors, -1 for none.
"""

from __future__ import annotations

from .graph import Counts
from .numba_kernel import inlined


@inlined
def insert(head: Counts, following: Counts, previous: Counts, v: int, key: int) -> None:
    """Insert ``v`` at the head of the bucket of ``key``."""
    first = head[key]
    following[v], previous[v], head[key] = first, -1, v
    if first >= 0:
        previous[first] = v


@inlined
def remove(head: Counts, following: Counts, previous: Counts, v: int, key: int) -> None:
    """Remove ``v`` from the bucket of ``key``."""
    before, after = previous[v], following[v]
    if before >= 0:
        following[before] = after
    else:
        head[key] = after
    if after >= 0:
        previous[after] = before
