"""Direct recovery from a star bicoloring: each entry is alone in a forward or in a reverse product; one gather.

Coleman, Verma, "The efficient computation of sparse Jacobian matrices using automatic differentiation", SIAM J. Sci.
Comput. 19 (1998), section 2. Products are laid end to end: forward (num_forward, m), then reverse (num_reverse, n).
"""

from __future__ import annotations

from .._colors import BidirectionalColors
from .._equations import Places, direct_places
from .._pattern import SparsityPattern


def bidirectional_index(pattern: SparsityPattern, coloring: BidirectionalColors) -> Places:
    """Where in the concatenated flattened products each entry stands, row-major: (nnz,)."""
    equations = coloring.equations(pattern)
    return direct_places(equations, pattern, "a star bicoloring of this pattern")[equations.unknown]
