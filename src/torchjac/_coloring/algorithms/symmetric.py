"""Symmetric coloring: the best of star, acyclic (for substitution) and column colorings."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..._base.words import Colors, Recovery
from ..._matrices.pattern import SparsityPattern
from ..colors import AcyclicColors, StarColors, SymmetricColors
from ..equations import symmetric
from .acyclic import color_acyclic, is_acyclic
from .adjacency import Adjacency, symmetric_graph
from .bounds import equations_bound
from .distance2 import color_distance2
from .graph import BipartiteGraph, Incidence, Indices, column_graph, incidence
from .iterated import by_classes
from .lattice import lattice_colorings
from .neutral_colors import needed_products, renumber
from .one_sided import SOURCES, budget, by_color, offer_lattice
from .order import vertex_order
from .search import Search, count
from .star import color_star

GUESSES = 3
"""The number of lattices to try: on a torus, the two-colored paths of most of them close to cycles."""

STAR, ACYCLIC, COLUMN, DEGREES = 8.0, 15.0, 6.0, 40.0
"""Nanoseconds an entry: star, acyclic and column coloring, an order by degrees among direct neighbors."""


def color_symmetric(pattern: SparsityPattern, order: str, recovery: Recovery, seconds: float | None) -> SymmetricColors:
    """The best coloring found of a symmetric pattern: StarColors, or AcyclicColors for substitution."""
    graph = symmetric_graph(pattern)
    connected = np.diff(graph.start.view(np.int64)) > 0
    diagonal = np.zeros(pattern.shape[0], bool)
    diagonal[pattern.indices[pattern.rows == pattern.indices]] = True
    vertices = np.flatnonzero(connected | diagonal).astype(np.uint32)
    unknowns = graph.neighbors.size // 2 + int(diagonal.sum())
    bound = int(equations_bound(unknowns, vertices.size))
    unit = STAR if recovery == "direct" else ACYCLIC
    search = Search(bound, budget=1.5 * budget(9 * unit, pattern.nnz), seconds=seconds)
    rows = incidence(pattern.indptr, pattern.indices)  # nets are distinct rows: not numbered as vertices are
    columns, acyclic = column_graph(pattern), recovery == "substitution"
    attempts = _Attempts(search, graph, columns, rows, vertices, acyclic, unit * pattern.nnz)
    attempts.greedy("natural" if order == "auto" else order, 0.0)
    attempts.column("natural" if order == "auto" else order)
    if order == "auto":
        attempts.several()
    assert search.colors is not None  # the first offer is always taken
    colors, name, sources = search.colors, search.name, search.sources
    if not diagonal[vertices].all():
        colors = _without_neutral(pattern, colors)
        sources = (*sources, "montoison2025") if count(colors) < count(search.colors) else sources
        if recovery == "substitution":  # which color can go is another question for a star coloring
            star = color_symmetric(pattern, order, "direct", search.left)
            if star.num_colors < count(colors):
                colors, name, sources = star.colors, star.order, star.sources
    kind = StarColors if recovery == "direct" else AcyclicColors
    return kind(
        colors=colors, num_colors=count(colors), lower_bound=bound, order=name, shape=pattern.shape, sources=sources
    )


@dataclass
class _Attempts:
    """The offers of colors that the search for a symmetric pattern may get."""

    search: Search
    graph: Adjacency
    columns: BipartiteGraph
    rows: Incidence
    vertices: Indices
    acyclic: bool
    work: float

    def method(self, order: Indices, limit: float) -> Colors | None:
        """The vertices of ``order`` in star colors, or in acyclic colors for substitution."""
        return (color_acyclic if self.acyclic else color_star)(self.graph, order, limit)

    def greedy(self, name: str, work: float) -> None:
        """Offer first-fit colors in a named order by distance-1 neighbors."""

        def make(limit: float) -> Colors | None:
            return self.method(self._order(name), limit)

        self.search.offer(name, self.work + work, make, "gebremedhin2007", *SOURCES[name])

    def distance2(self, name: str, work: float) -> None:
        """Offer first-fit colors in a named order by distance-2 neighbors."""

        def make(limit: float) -> Colors | None:
            order = vertex_order(self.columns, name)
            return self.method(order, limit)

        self.search.offer(name, self.work + work, make, "gebremedhin2007", *SOURCES[name])

    def column(self, name: str, work: float = 0.0) -> None:
        """Offer a column coloring: it is a star coloring, and sometimes better than a first-fit one."""

        def make(limit: float) -> Colors | None:
            order = self.vertices if name == "natural" else vertex_order(self.columns, name)
            return color_distance2(self.columns, order, limit)

        self.search.offer(f"{name} column", COLUMN * self.columns.nnz + work, make, "gebremedhin2005", *SOURCES[name])

    def lattice(self) -> bool:
        """Offer lattice colorings, for substitution and of columns; return whether the pattern is a grid."""
        search, graph = self.search, self.graph
        if self.acyclic:
            most = int(min(search.limit, search.bound + 12))
            guesses = lattice_colorings(self.rows, graph.num_vertices, int(search.bound), most, 2)
            for guess in islice(guesses, GUESSES):
                found = guess if is_acyclic(graph, guess) else self.method(by_color(self.vertices, guess), np.inf)
                search.take("lattice", found, "goldfarb1984")
                if found is not None and count(found) <= count(guess):
                    return True
        return offer_lattice(search, self.columns)

    def several(self) -> None:
        """Offer all other ways to color, the cheapest first."""
        if self.lattice() and self.search.seconds is None:
            return
        self.greedy("breadth-first", 10.0 * self.columns.nnz)
        self.greedy("smallest-last", DEGREES * self.columns.nnz)
        self.greedy("largest-first", DEGREES / 2 * self.columns.nnz)
        near, columns = min(self.columns.pairs, 8 * self.columns.nnz), self.columns
        self.column("dsatur", 1.2 * columns.pairs + 9.0 * near)
        for name in ("smallest-last", "dsatur"):
            self.distance2(name, 1.2 * columns.pairs + 9.0 * near)
        step = idle = 0
        current = self.search.colors
        while current is not None and not self.search.done and self.search.affords(self.work):
            if self.search.seconds is None and idle == 3:
                return
            again = self.method(by_classes(self.vertices, current, step), np.inf)
            current = again if again is not None else current
            name, sources = (
                f"improved {self.search.name.removeprefix('improved ')}",
                (*self.search.sources, "culberson1992"),
            )
            self.search.spent += self.work
            better = self.search.take(name, again, *dict.fromkeys(sources))
            step, idle = step + 1, 0 if better else idle + 1

    def _order(self, name: str) -> Indices:
        """The vertices in an order by direct neighbors, then those that have no neighbor."""
        if name == "natural":
            return self.vertices
        if name == "breadth-first":
            return vertex_order(self.columns, name)
        order = vertex_order(self.graph.distance1, name)
        lonely = np.ones(self.graph.num_vertices, bool)
        lonely[order] = False
        return np.concatenate([order, self.vertices[lonely[self.vertices]]])


def _without_neutral(pattern: SparsityPattern, colors: Colors) -> Colors:
    equations = symmetric(pattern, colors)
    product = np.where(equations.places >= 0, equations.places // pattern.shape[0], -1)
    return renumber(colors, needed_products(equations, product, np.ones(count(colors))))
