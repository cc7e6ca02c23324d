"""Neutral colors: removal of the products that no entry is read from, after a star, acyclic or bidirectional coloring.

Montoison, Dalle, Gebremedhin, "Revisiting sparse matrix coloring and bicoloring", arXiv:2505.07308 (2025), section 4.

An entry that is alone in one of its two products needs only that one. A product stays when an entry in it is not alone
in the other; then, for the entries alone in both whose products are undecided, the products that serve most of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..._base.words import Colors
from ..equations import Equations

Products = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def needed_products(equations: Equations, product: Products, cost: npt.NDArray[np.float64]) -> Mask:
    """A mask of the products that must stay, (num_products,); ``product``, (2, unknowns), of each place, -1 for none.

    ``cost`` of each product decides between two that would do. O(nnz).
    """
    alone = equations.alone
    needed = np.zeros(cost.size, bool)
    for here, there in ((0, 1), (1, 0)):
        needed[product[here, (product[here] >= 0) & ~alone[there]]] = True
    free = ~needed[product].any(axis=0) & (product >= 0).all(axis=0)
    pairs = np.unique(np.sort(product[:, free], axis=0), axis=1)
    while pairs.size:  # cover the edges between undecided products, the most edges for the least cost first
        served = np.bincount(pairs.ravel(), minlength=cost.size) / cost
        best = int(served.argmax())
        needed[best] = True
        pairs = pairs[:, (pairs != best).all(axis=0)]
    return needed


def renumber(colors: Colors, needed: Mask) -> Colors:
    """The colors without those that are not needed, renumbered without gaps; -1 for a vertex that lost its color."""
    number = np.where(needed, np.cumsum(needed) - 1, -1).astype(np.int32)
    return np.append(number, np.int32(-1))[colors]
