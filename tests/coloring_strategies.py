"""Random patterns for Hypothesis, and small graphs in the words of the textbook definitions."""

import numpy as np
from hypothesis import strategies as st

from torchjac import SparsityPattern


@st.composite
def patterns(draw, largest=12, most=40):
    """Any pattern up to ``largest`` x ``largest``, also without rows, columns or entries."""
    m, n = draw(st.integers(0, largest)), draw(st.integers(0, largest))
    cells = draw(st.sets(st.integers(0, m * n - 1), max_size=most)) if m * n else set()
    return SparsityPattern.from_coo([c // n for c in cells], [c % n for c in cells], (m, n))


@st.composite
def symmetric_patterns(draw, largest=12, most=30):
    """Any symmetric pattern, with all, some or none of its diagonal."""
    n = draw(st.integers(0, largest))
    cells = draw(st.sets(st.integers(0, n * n - 1), max_size=most)) if n else set()
    diagonal = list(range(n)) if draw(st.booleans()) else []
    rows, columns = [c // n for c in cells], [c % n for c in cells]
    return SparsityPattern.from_coo(rows + columns + diagonal, columns + rows + diagonal, (n, n))


def neighbors_of(pattern):
    """For each vertex of a symmetric pattern the set of its neighbors."""
    dense = pattern.to_dense().numpy() & ~np.eye(pattern.shape[0], dtype=bool)
    return [set(row.nonzero()[0].tolist()) for row in dense]


def distance2_neighbors(pattern):
    """For each column the set of the others that share a row with it."""
    dense = pattern.to_dense().numpy().astype(int)
    meet = dense.T @ dense
    return [set(row.nonzero()[0].tolist()) - {v} for v, row in enumerate(meet)]
