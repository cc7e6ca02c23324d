"""Sparsity patterns with known answers, made on the spot: (rows, columns, shape), no download."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from torchjac import SparsityPattern


def stencil(shape: tuple[int, ...], offsets: list[tuple[int, ...]], periodic: bool = False) -> SparsityPattern:
    """The square matrix of a stencil on a grid: entry (p, p + d) for every point p and offset d."""
    points = np.indices(shape).reshape(len(shape), -1)
    size = np.array(shape)[:, None]
    rows, columns = [], []
    for offset in offsets:
        other = points + np.array(offset)[:, None]
        inside = np.ones(points.shape[1], bool) if periodic else ((other >= 0) & (other < size)).all(axis=0)
        rows.append(np.flatnonzero(inside))
        columns.append(np.ravel_multi_index(tuple((other % size)[:, inside]), shape))
    n = points.shape[1]
    return SparsityPattern.from_coo(np.concatenate(rows), np.concatenate(columns), (n, n))


def cross(dimensions: int) -> list[tuple[int, ...]]:
    """The 2 d + 1 point stencil."""
    unit = np.eye(dimensions, dtype=int)
    return [(0,) * dimensions, *(tuple(sign * row) for row in unit for sign in (1, -1))]


def box(dimensions: int) -> list[tuple[int, ...]]:
    """The 3^d point stencil."""
    return [tuple(o) for o in np.indices((3,) * dimensions).reshape(dimensions, -1).T - 1]


def brusselator(n: int) -> SparsityPattern:
    """Two species on a periodic n x n grid, index (i n + j) 2 + species: 6 entries a row."""
    grid = stencil((n, n), cross(2), periodic=True)
    rows, columns = grid.rows.astype(np.int64), grid.indices.astype(np.int64)
    points = np.arange(n * n)
    pairs = [(2 * rows + s, 2 * columns + s) for s in (0, 1)] + [(2 * points + s, 2 * points + 1 - s) for s in (0, 1)]
    row, column = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return SparsityPattern.from_coo(row, column, (2 * n * n, 2 * n * n))


def bundle_adjustment(
    cameras: int = 49, points: int = 7776, observations: int = 83_718, seed: int = 0
) -> SparsityPattern:
    """Two residuals an observation, of 9 camera and 3 point parameters: 12 entries a row."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice(cameras * points, observations, replace=False)
    camera, point = np.divmod(np.sort(pairs), points)
    columns = np.concatenate(
        [9 * camera[:, None] + np.arange(9), 9 * cameras + 3 * point[:, None] + np.arange(3)], axis=1
    )
    rows = 2 * np.arange(observations)[:, None] + np.zeros((1, 12), int)
    shape = (2 * observations, 9 * cameras + 3 * points)
    return SparsityPattern.from_coo(
        np.concatenate([rows, rows + 1]).ravel(), np.concatenate([columns, columns]).ravel(), shape
    )


def random_rows(n: int = 100_000, per_row: int = 10, seed: int = 0) -> SparsityPattern:
    """Uniformly random columns, ``per_row`` draws a row."""
    columns = np.random.default_rng(seed).integers(0, n, (n, per_row))
    return SparsityPattern.from_coo(np.repeat(np.arange(n), per_row), columns.ravel(), (n, n))


def triangle_mesh(cells: int = 158, seed: int = 0) -> SparsityPattern:
    """Linear elements on a triangulated square, nodes numbered at random: cells^2 x 2 triangles, node to node."""
    n = cells + 1
    number = np.random.default_rng(seed).permutation(n * n).reshape(n, n)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[:-1, 1:], number[1:, 1:]
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, d), (a, d, c))])
    return _cliques(triangles, n * n)


def delaunay_mesh(nodes: int = 25_200, seed: int = 0) -> SparsityPattern:
    """Linear elements on a Delaunay triangulation of random points: about two triangles a node."""
    from scipy.spatial import Delaunay

    points = np.random.default_rng(seed).random((nodes, 2))
    return _cliques(Delaunay(points).simplices, nodes)


def lennard_jones(particles: int = 2000, cutoff: float = 1.45, seed: int = 0) -> SparsityPattern:
    """The Hessian of a pair energy with a cut-off on jittered lattice points in a periodic box, 3 coordinates each."""
    from scipy.spatial import cKDTree

    side = int(np.ceil(particles ** (1 / 3)))
    rng = np.random.default_rng(seed)
    points = np.indices((side,) * 3).reshape(3, -1).T[:particles] + 0.1 * rng.standard_normal((particles, 3))
    pairs = cKDTree(points % side, boxsize=side).query_pairs(cutoff, output_type="ndarray")
    cliques = (3 * pairs[:, :, None] + np.arange(3)).reshape(-1, 6)
    return _cliques(cliques, 3 * particles)


def banded(n: int, half: int) -> SparsityPattern:
    """Half-bandwidth ``half``."""
    return stencil((n,), [(d,) for d in range(-half, half + 1)])


def arrow(n: int) -> SparsityPattern:
    """A diagonal, a full first row and a full first column."""
    k = np.arange(n)
    zero = np.zeros(n, int)
    return SparsityPattern.from_coo(np.concatenate([k, zero, k]), np.concatenate([k, k, zero]), (n, n))


def _cliques(members: np.ndarray, n: int) -> SparsityPattern:
    """Everything in one row of ``members`` (elements, size) meets everything else there."""
    size = members.shape[1]
    return SparsityPattern.from_coo(np.repeat(members, size, axis=1).ravel(), np.tile(members, size).ravel(), (n, n))


PROBLEMS: dict[str, Callable[[], SparsityPattern]] = {
    "brusselator 512": lambda: brusselator(512),
    "bundle adjustment 83718": bundle_adjustment,
    "random 100k x 10": random_rows,
    "triangle mesh 50k": triangle_mesh,
    "delaunay mesh 50k": delaunay_mesh,
    "lennard-jones 2000": lennard_jones,
    "5-point 512": lambda: stencil((512, 512), cross(2)),
    "9-point 512 (minimal surface)": lambda: stencil((512, 512), box(2)),
    "7-point 64^3": lambda: stencil((64, 64, 64), cross(3)),
    "arrow 10000": lambda: arrow(10_000),
}
