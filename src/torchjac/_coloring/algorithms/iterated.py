"""Iterated greedy coloring: color again, class by class, which never needs more colors and often fewer.

Culberson, "Iterated greedy graph coloring and the difficulty landscape", TR 92-07, University of Alberta (1992),
section 2. Vertices of one color do not meet, so first fit over whole classes needs no more colors than there were.
"""

from __future__ import annotations

import numpy as np

from ..._base.words import Colors
from .graph import Indices
from .search import count


def by_classes(vertices: Indices, colors: Colors, step: int) -> Indices:
    """The ``vertices`` sorted by color: last color first, every third step in a fixed random order of colors."""
    k = count(colors)
    rank = np.random.default_rng(step).permutation(k) if step % 3 == 2 else np.arange(k)[::-1]
    keys = rank.astype(np.uint16 if k < 2**16 else np.uint32)[colors[vertices]]  # NumPy sorts short integers by radix
    return vertices[np.argsort(keys, kind="stable")]
