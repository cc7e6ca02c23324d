"""Vertex orders by name, and those that need no loop of their own.

An order that follows degrees needs the neighbors at distance 2, which costs the sum of the squares of the net sizes:
more than the coloring itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .breadth_first import breadth_first
from .degrees import distance2_degrees
from .dsatur import dsatur
from .dynamic import dynamic_largest_first, incidence_degree, smallest_last
from .graph import BipartiteGraph, Indices


def natural(graph: BipartiteGraph) -> Indices:
    """The vertices that have nets, by number."""
    return graph.vertices


def random(graph: BipartiteGraph, seed: int = 0) -> Indices:
    """The vertices that have nets, shuffled; the same each time."""
    return np.random.default_rng(seed).permutation(graph.vertices)


def largest_first(graph: BipartiteGraph) -> Indices:
    """The vertices that have nets, in falling degree, equals in natural order.

    Welsh, Powell, "An upper bound for the chromatic number of a graph and its application to timetabling problems",
    The Computer Journal 10 (1967), section 3.
    """
    return graph.vertices[np.argsort(-distance2_degrees(graph)[graph.vertices], kind="stable")]


ORDERS: dict[str, Callable[[BipartiteGraph], Indices]] = {
    "natural": natural,
    "random": random,
    "breadth-first": breadth_first,
    "largest-first": largest_first,
    "smallest-last": smallest_last,
    "incidence-degree": incidence_degree,
    "dynamic-largest-first": dynamic_largest_first,
    "dsatur": dsatur,
}
"""Every order by its name; ``"auto"`` is no order but a search over these."""


def vertex_order(graph: BipartiteGraph, name: str) -> Indices:
    """The vertices of ``graph`` that have nets, in the named order."""
    return ORDERS[name](graph)
