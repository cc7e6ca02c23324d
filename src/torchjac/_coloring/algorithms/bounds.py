"""A lower bound on the number of products: each entry needs an equation of its own.

For a column (or row) coloring the largest net says more, see ``BipartiteGraph.largest_net``.
"""

from __future__ import annotations

import numpy as np


def equations_bound(unknowns: int, forward: int, reverse: int = 0, reverse_cost: float = 1.0) -> float:
    """The least cost of products with ``forward`` (or ``reverse``) equations each that determine all unknowns.

    >>> equations_bound(unknowns=3 * 10 - 2, forward=10)
    3.0
    """
    sides = [(forward, 1.0), (reverse, reverse_cost)]
    least = min((cost / size for size, cost in sides if size), default=0.0) * unknowns
    return float(np.ceil(least - 1e-9)) if reverse_cost == 1.0 else least
