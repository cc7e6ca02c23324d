"""The problems of the demo: functions with a sparse Jacobian, in plain PyTorch.

    brusselator       reaction and diffusion on a periodic grid          each output reads 6 inputs
    burgers           a 1-D conservation law by convolution              3
    mesh_assembly     finite elements: gather, element residual, add up  up to 7
    Bundle.residuals  bundle adjustment: one camera and one point        9

The first three are functions of one tensor; the last one has two inputs, cameras and points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import conv1d

Numbers = npt.NDArray[np.intp]


def brusselator(u: torch.Tensor) -> torch.Tensor:
    """Return the right-hand side of the Brusselator on a periodic unit square: (2, N, N) -> (2, N, N).

    Two species x, y: x' = a + x^2 y - (b + 1) x + lap x and y' = b x - x^2 y + lap y, with a = 1, b = 3.4 and the
    five-point Laplacian.

    >>> import torch
    >>> from torchjac.cli.demo.problems import brusselator
    >>> steady = torch.tensor([1.0, 3.4]).reshape(2, 1, 1).expand(2, 4, 4)  # x = a, y = b / a
    >>> bool(brusselator(steady).abs().max() < 1e-5)
    True
    """
    a, b = 1.0, 3.4
    x, y = u
    reaction = x * x * y
    return torch.stack([a + reaction - (b + 1) * x + _laplacian(x), b * x - reaction + _laplacian(y)])


def _laplacian(z: torch.Tensor) -> torch.Tensor:
    """Return the Laplacian by five points on a periodic (N, N) grid of the unit square."""
    around: torch.Tensor = torch.roll(z, 1, 0) + torch.roll(z, -1, 0) + torch.roll(z, 1, 1) + torch.roll(z, -1, 1)
    cells: float = z.shape[0] - 1
    return (around - 4 * z) * (cells * cells)


def burgers(u: torch.Tensor, viscosity: float = 0.01) -> torch.Tensor:
    """The right-hand side of Burgers' equation u' = viscosity u_xx - u u_x on [0, 1], zero at both ends: (n,) -> (n,).

    Central differences, both by one ``conv1d``: 3 n - 2 entries.
    """
    h = 1 / (u.numel() + 1)
    stencils = torch.tensor([[-0.5 / h, 0.0, 0.5 / h], [1 / h**2, -2 / h**2, 1 / h**2]], dtype=u.dtype, device=u.device)
    derivatives = conv1d(u[None, None], stencils[:, None], padding=1)[0]  # (2, n): first, second
    return viscosity * derivatives[1] - u * derivatives[0]


def triangle_mesh(nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return coordinates (P, 2) and triangles (T, 3), two a cell, of a unit square with ``nodes`` x ``nodes`` nodes."""
    along = torch.linspace(0, 1, nodes, dtype=torch.float64)
    coordinates = torch.cartesian_prod(along, along)
    number = torch.arange(nodes * nodes).reshape(nodes, nodes)
    a, b, c, d = number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]
    halves = [torch.stack([corner.reshape(-1) for corner in half], 1) for half in ((a, b, c), (a, c, d))]
    return coordinates, torch.cat(halves)


def mesh_assembly(nodes: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The minimal surface equation on ``triangle_mesh(nodes)``, assembled: a function (P,) -> (P,) of the heights.

    Element by element: gather the heights of three corners, the residual area * (grad u . grad phi) / sqrt(1 + |grad
    u|^2) of each corner's hat function phi, and ``index_add`` into the nodes.
    """
    coordinates, triangles = triangle_mesh(nodes)
    corners = coordinates[triangles]  # (T, 3, 2)
    edges = corners[:, 1:] - corners[:, :1]
    area = torch.linalg.det(edges).abs() / 2
    hats = torch.linalg.inv(edges).mT  # gradients of the hat functions of corners 1 and 2: rows, (T, 2, 2)
    hats = torch.cat([-hats.sum(1, keepdim=True), hats], 1)
    target = triangles.reshape(-1)

    def residual(u: torch.Tensor) -> torch.Tensor:
        local = hats.to(u.dtype)
        gradient = (u[triangles][:, :, None] * local).sum(1)  # (T, 2)
        flux = area.to(u.dtype)[:, None] * gradient / torch.sqrt(1 + (gradient * gradient).sum(1, keepdim=True))
        elements = (local * flux[:, None, :]).sum(2)  # (T, 3)
        return torch.zeros_like(u).index_add(0, target, elements.reshape(-1))

    return residual


@dataclass(frozen=True)
class Bundle:
    """Bundle adjustment: cameras and points, and where which camera saw which point.

    Attributes
    ----------
    cameras: (C, 6), axis-angle and translation.
    points: (P, 3).
    camera_index, point_index: (K,), what each observation is of.
    observed: (K, 2), pixels.
    focal, principal, radial: of the one lens: a number, the image's centre, and the distortion (k1, k2, k3).
    """

    cameras: torch.Tensor
    points: torch.Tensor
    camera_index: torch.Tensor
    point_index: torch.Tensor
    observed: torch.Tensor
    focal: float
    principal: tuple[float, float]
    radial: tuple[float, float, float]

    def residuals(self, cameras: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Return predicted minus observed pixels, (C, 6), (P, 3) -> (K, 2)."""
        lens = (self.focal, self.principal, self.radial)
        return bundle_residuals(cameras, points, self.camera_index, self.point_index, self.observed, *lens)


def bundle_residuals(
    cameras: torch.Tensor,
    points: torch.Tensor,
    camera_index: torch.Tensor,
    point_index: torch.Tensor,
    observed: torch.Tensor,
    focal: float,
    principal: tuple[float, float],
    radial: tuple[float, float, float],
) -> torch.Tensor:
    """Return predicted minus observed pixels: (K, 2). An observation reads one camera (6 numbers) and one point (3).

    q = R X + t, y = q.xy / q.z, pixel = focal y (1 + k1 r^2 + k2 r^4 + k3 r^6) + principal, r = |y|.
    """
    camera = cameras[camera_index]
    q = rotate(camera[:, :3], points[point_index]) + camera[:, 3:]
    y = q[:, :2] / q[:, 2:]
    r2 = (y * y).sum(1, keepdim=True)
    k1, k2, k3 = radial
    distortion = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return focal * distortion * y + observed.new_tensor(principal) - observed


def rotate(axis_angle: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Rotate by Rodrigues' formula, (K, 3), (K, 3) -> (K, 3): x + a w × x + b w × (w × x).

    a = sin t / t and b = (1 - cos t) / t^2 with t = |w|. Near t = 0 both are their Taylor series in t^2, so that
    derivatives exist there too.
    """
    squared = (axis_angle * axis_angle).sum(1, keepdim=True)
    small = squared < 1e-4
    angle = torch.sqrt(torch.where(small, 1.0, squared))  # never 0: no branch of where may give an inf or nan
    half = torch.sin(angle / 2) / angle
    a = torch.where(small, 1 - squared / 6 * (1 - squared / 20 * (1 - squared / 42)), torch.sin(angle) / angle)
    b = torch.where(small, 0.5 - squared / 24 * (1 - squared / 30 * (1 - squared / 56)), 2 * half * half)
    once = torch.linalg.cross(axis_angle, x)
    rotated: torch.Tensor = x + a * once + b * torch.linalg.cross(axis_angle, once)
    return rotated


def generated_bundle(cameras: int = 60, points: int = 4000, observations: int = 24_000, seed: int = 0) -> Bundle:
    """Return cameras on a ring around a cloud of points, with half a pixel of noise; neighbours see the same point.

    >>> from torchjac.cli.demo.problems import generated_bundle
    >>> bundle = generated_bundle(cameras=5, points=20, observations=60)
    >>> bundle.residuals(bundle.cameras, bundle.points).shape
    torch.Size([60, 2])
    """
    if not points <= observations <= cameras * points:
        raise ValueError(f"{observations} observations: between {points} (points) and {cameras * points} (all pairs)")
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    turn = 2 * math.pi * (torch.arange(cameras, dtype=torch.float64) / cameras - 0.5)
    ring = torch.stack([0 * turn, turn, 0 * turn, 0 * turn, 0 * turn, 0 * turn + 4], 1) + 0.01 * noise(cameras, 6)
    cloud = 2 * torch.rand(points, 3, generator=generator, dtype=torch.float64) - 1
    k = torch.arange(observations)
    point_index = k % points
    first = torch.randint(cameras, (points,), generator=generator)
    camera_index = (first[point_index] + k // points) % cameras  # pairs never repeat
    unseen = torch.zeros(observations, 2, dtype=torch.float64)
    lens = (1000.0, (960.0, 540.0), (-0.05, 0.01, 0.0))
    pixels = bundle_residuals(ring, cloud, camera_index, point_index, unseen, *lens)
    return Bundle(ring, cloud, camera_index, point_index, pixels + 0.5 * noise(observations, 2), *lens)


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle adjustment in the binary format of libmv (``libmv_problem_*.bin``, shipped with Ceres Solver).

    Only cameras and points that some marker refers to are kept, in the order of the file. All numbers become float64.

    Raises
    ------
    ValueError: the file is something else, or ends early.
    """
    file = _LibmvFile(path)
    focal, px, py, k1, k2, k3, _p1, _p2 = (float(number) for number in file.take("f4", 8))
    cameras = file.take_counted("i4, (9,)f4, (3,)f4")  # image, rotation column by column, translation
    points = file.take_counted("i4, (3,)f4")  # track, place
    markers = file.take_counted("i4, i4, (2,)f4")  # image, track, pixel
    camera_rows, camera_index = _positions(cameras["f0"], markers["f0"])
    point_rows, point_index = _positions(points["f0"], markers["f1"])
    rotation = cameras["f1"][camera_rows].reshape(-1, 3, 3).transpose(0, 2, 1).astype(np.float64)
    motion = np.concatenate([_axis_angle(rotation), cameras["f2"][camera_rows]], 1)
    return Bundle(
        torch.from_numpy(motion),
        torch.from_numpy(points["f1"][point_rows].astype(np.float64)),
        torch.from_numpy(camera_index),
        torch.from_numpy(point_index),
        torch.from_numpy(markers["f2"].astype(np.float64)),
        focal,
        (px, py),
        (k1, k2, k3),
    )


class _LibmvFile:
    """A file of libmv: a byte for the byte order, a byte for the kind of coordinates, then packed records."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.data, self.position = path, Path(path).read_bytes(), 2
        if self.data[:2] not in (b"vP", b"VP"):
            raise ValueError(f"{path} is not a libmv problem in pixels: it starts with {self.data[:2]!r}, not b'vP'")
        self.order: Literal["<", ">"] = "<" if self.data[:1] == b"v" else ">"

    def take(self, record: str, count: int = 1) -> npt.NDArray[Any]:
        """Return the next ``count`` records, in the machine's byte order."""
        dtype = np.dtype(record)
        if count < 0 or self.position + count * dtype.itemsize > len(self.data):
            raise ValueError(f"{self.path} ends early: {len(self.data):,} bytes are less than its counts announce")
        records = np.frombuffer(self.data, dtype.newbyteorder(self.order), count, self.position)
        self.position += count * dtype.itemsize
        return records.astype(dtype)

    def take_counted(self, record: str) -> npt.NDArray[Any]:
        """Read a count, and return as many records."""
        return self.take(record, int(self.take("i4")[0]))


def _positions(known: Numbers, used: Numbers) -> tuple[Numbers, Numbers]:
    """Return the rows of ``known`` that are used, in order, and where among them each one of ``used`` is."""
    by_number = np.argsort(known, kind="stable")
    place = np.searchsorted(known, used, sorter=by_number)
    rows = by_number[np.minimum(place, known.size - 1)]
    if not np.array_equal(known[rows], used):
        raise ValueError(f"a marker refers to {used[known[rows] != used][0]}, which the file does not describe")
    return np.unique(rows, return_inverse=True)


def _axis_angle(rotation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the logarithm of rotation matrices, (C, 3, 3) -> (C, 3)."""
    from scipy.spatial.transform import Rotation

    vectors: npt.NDArray[np.float64] = Rotation.from_matrix(rotation).as_rotvec()
    return vectors
