"""``python -m torchjac demo`` as a user runs it, small; and the problems that it brings."""

from __future__ import annotations

import math
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

import torchjac as tj
from torchjac.cli.demo.dense import DenseWay, largest_difference, largest_scale
from torchjac.cli.demo.picture import close_view, density
from torchjac.cli.demo.problems import (
    Bundle,
    brusselator,
    bundle_residuals,
    burgers,
    generated_bundle,
    mesh_assembly,
    read_bundle,
    rotate,
    triangle_mesh,
)


def command(*arguments: str | Path, hide: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.modules[{hide!r}] = None; " if hide else ""
    code += "from torchjac.__main__ import main; raise SystemExit(main())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment)


def png_rows(path: Path) -> tuple[int, int, set[bytes]]:
    """Width, height and the distinct rows of a PNG, by the standard library alone."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, compressed, size = 8, b"", (0, 0)
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        body = data[position + 8 : position + 8 + length]
        if kind == b"IHDR":
            size = struct.unpack(">II", body[:8])
        compressed += body if kind == b"IDAT" else b""
        position += 12 + length
    pixels = zlib.decompress(compressed)
    stride = len(pixels) // size[1]
    return (*size, {pixels[i * stride : (i + 1) * stride] for i in range(size[1])})


# ---- the command


def test_demo_prints_plans_times_and_ratios_and_leaves_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    done = command("demo", "--size", "8", "--threads", "1", "--picture", picture)
    assert (done.returncode, done.stderr) == (0, "")
    for heading in ("Brusselator, 8 x 8 grid, 2 species", "Bundle adjustment, generated, 4 cameras, 8 points"):
        assert heading in done.stdout
    for row in ("function", "pattern", "coloring", "products", "detection", "evaluation", "  dense", "  ratio"):
        assert len(re.findall(f"^{row} ", done.stdout, re.MULTILINE)) >= 2, row
    assert "128 inputs -> 128 outputs" in done.stdout
    assert "768 entries" in done.stdout
    assert "1 thread," in done.stdout
    assert f"picture       {picture}" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if str(picture) not in line) <= 120
    width, height, rows = png_rows(picture)
    assert width > 800
    assert height > 800
    assert len(rows) > 100


def test_demo_agrees_with_the_dense_way(tmp_path: Path) -> None:
    done = command("demo", "--size", "4", "--picture", tmp_path / "p.png")
    differences = re.findall(r"largest difference: (none|\S+)", done.stdout)
    assert len(differences) == 2
    assert all(size == "none" or float(size) < 1e-12 for size in differences)


def test_demo_takes_a_real_bundle_adjustment(tmp_path: Path) -> None:
    file = tmp_path / "small.bin"
    file.write_bytes(libmv(cameras=4, points=5))
    done = command("demo", "--size", "4", "--data", file, "--picture", tmp_path / "p.png")
    assert done.returncode == 0, done.stderr
    assert "Bundle adjustment, small.bin, 4 cameras, 5 points, 20 observations" in done.stdout
    assert "360 entries" in done.stdout


def test_demo_without_matplotlib_says_how_to_install_it(tmp_path: Path) -> None:
    done = command("demo", "--size", "4", "--picture", tmp_path / "p.png", hide="matplotlib")
    assert done.returncode == 0, done.stderr
    assert "matplotlib is not installed; pip install 'torchjac[plot]'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["demo", "--size", "2"], "--size 2: a periodic five-point grid needs at least 3"),
        (["demo", "--threads", "0"], "--threads 0: at least 1"),
        (["demo", "--data", "nowhere.bin"], "--data: .*nowhere.bin"),
        (["demo", "--data", __file__], "is not a libmv problem in pixels"),
        ([], "Usage: torchjac"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], complaint: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert re.search(complaint, done.stderr + done.stdout)
    assert "Traceback" not in done.stderr


# ---- the parts


def test_demo_shrinks_a_problem_whose_dense_jacobian_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchjac.cli.demo import demo

    monkeypatch.setattr(demo, "_DENSE_BYTES", 100_000)
    problem, way = demo.fitting(demo.brusselator_problem(20))
    assert way is not None
    assert 0 < problem.dense_bytes <= 100_000 < demo.brusselator_problem(int(problem.args[0].shape[1]) + 1).dense_bytes
    alone = demo.Problem("no smaller one", torch.sin, (torch.rand(1000),))
    assert demo.fitting(alone) == (alone, None)


def test_largest_scale() -> None:
    assert largest_scale(lambda scale: int(100 * scale), 100) == 1.0
    assert largest_scale(lambda scale: int(100 * scale), 37) == pytest.approx(0.38, abs=2e-3)


def test_dense_way_is_jacrev() -> None:
    way = DenseWay(torch.sin, (torch.rand(300, dtype=torch.float64),))
    x = way._x
    assert way.seconds > 0
    torch.testing.assert_close(way(), torch.func.jacrev(torch.sin)(x))
    way.way = {"jacrev": "jacfwd", "jacfwd": "jacrev"}[way.way]
    torch.testing.assert_close(way(), torch.func.jacrev(torch.sin)(x))


def test_largest_difference_sees_every_entry() -> None:
    pattern = tj.SparsityPattern.from_coo([0, 1], [0, 1], (2, 2))
    dense = torch.tensor([[2.0, 0.0], [0.0, -4.0]])
    assert largest_difference(dense.clone(), pattern, torch.tensor([2.0, -4.0])) == 0
    assert largest_difference(dense.clone(), pattern, torch.tensor([2.0, -3.0])) == 0.25
    outside = dense + torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    assert largest_difference(outside, pattern, torch.tensor([2.0, -4.0])) == 0.25
    assert math.isnan(largest_difference(dense * math.nan, pattern, torch.tensor([2.0, -4.0])))


def test_pictures_lose_no_entry() -> None:
    pattern = tj.SparsityPattern.from_coo([0, 99_999], [99_999, 5], (100_000, 100_000))
    assert np.argwhere(density(pattern)).tolist() == [[0, 399], [399, 0]]
    close = close_view(pattern, tj.color(pattern, "column"))
    assert close.shape == (24, 1, 3)
    assert (close[0] < 1).any()
    assert (close[1:] == 1).all()


# ---- the problems


def test_burgers_is_the_equation() -> None:
    n = 2000
    x = torch.arange(1, n + 1, dtype=torch.float64) / (n + 1)
    u = torch.sin(torch.pi * x)
    expected = -0.01 * torch.pi**2 * u - u * torch.pi * torch.cos(torch.pi * x)
    torch.testing.assert_close(burgers(u), expected, atol=1e-4, rtol=1e-4)


def test_mesh_assembly_is_the_gradient_of_the_area() -> None:
    coordinates, triangles = triangle_mesh(5)
    u = torch.rand(25, dtype=torch.float64)

    def area(u: torch.Tensor) -> torch.Tensor:
        a, b, c = torch.cat([coordinates, u[:, None]], 1)[triangles].unbind(1)
        return torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2

    torch.testing.assert_close(mesh_assembly(5)(u), torch.func.grad(area)(u))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 9.99e-3, 1.001e-2, 1.0, 3.1])
def test_rotate_is_the_matrix_exponential_with_its_derivatives(angle: float) -> None:
    w = torch.tensor([[0.6, 0.0, -0.8]], dtype=torch.float64) * angle
    x = torch.randn(1, 3, dtype=torch.float64)

    def by_exponential(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        zero = torch.zeros_like(w[0, 0])
        a, b, c = w[0]
        cross = torch.stack([zero, -c, b, c, zero, -a, -b, a, zero]).reshape(3, 3)
        return torch.linalg.matrix_exp(cross) @ x[0]

    torch.testing.assert_close(rotate(w, x)[0], by_exponential(w, x))
    mine = torch.func.jacfwd(torch.func.jacrev(lambda w: rotate(w, x)[0]))(w)
    torch.testing.assert_close(mine, torch.func.jacrev(torch.func.jacrev(by_exponential))(w, x), atol=1e-7, rtol=1e-7)


def test_generated_bundle_has_distinct_pairs_and_every_point_in_front() -> None:
    bundle = generated_bundle(7, 50, 200)
    pairs = bundle.camera_index * 50 + bundle.point_index
    assert pairs.unique().numel() == 200
    assert bundle.point_index.unique().numel() == 50
    camera = bundle.cameras[bundle.camera_index]
    assert (rotate(camera[:, :3], bundle.points[bundle.point_index]) + camera[:, 3:])[:, 2].min() > 1
    assert bundle.residuals(bundle.cameras, bundle.points).abs().median() < 1
    with pytest.raises(ValueError, match=r"351 observations: between 50 \(points\) and 350"):
        generated_bundle(7, 50, 351)


def per_observation(bundle: Bundle) -> torch.Tensor:
    """(K, 2, 9), dense: what each observation's residual depends on."""
    first = torch.zeros(1, dtype=torch.long)
    lens = (bundle.focal, bundle.principal, bundle.radial)

    def one(camera: torch.Tensor, point: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
        return bundle_residuals(camera[None], point[None], first, first, pixel[None], *lens)[0]

    blocks = torch.vmap(torch.func.jacrev(one, (0, 1)))
    chosen = (bundle.cameras[bundle.camera_index], bundle.points[bundle.point_index], bundle.observed)
    return torch.cat(blocks(*chosen), -1)


def assert_bundle_jacobian_is_exact(bundle: Bundle) -> None:
    args = (bundle.cameras, bundle.points)
    plan = tj.plan_jacobian(bundle.residuals, *args, argnums=(0, 1), ravel=True, layout=torch.sparse_csr)
    camera = 6 * bundle.camera_index[:, None] + torch.arange(6)
    point = bundle.cameras.numel() + 3 * bundle.point_index[:, None] + torch.arange(3)
    columns = torch.cat([camera, point], 1)[:, None].expand(-1, 2, -1).reshape(-1)
    J, expected = plan(*args), per_observation(bundle).reshape(-1)
    assert torch.equal(J.col_indices(), columns)
    assert (J.values() - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_bundle_jacobian_is_that_of_each_observation() -> None:
    assert_bundle_jacobian_is_exact(generated_bundle(5, 30, 90))


def test_the_real_bundle_adjustment(data_dir: Path) -> None:
    bundle = read_bundle(data_dir / "libmv_problem_02.bin")
    assert (len(bundle.cameras), len(bundle.points), len(bundle.observed)) == (440, 71, 16_718)
    residuals = bundle.residuals(bundle.cameras, bundle.points)
    assert residuals.abs().median() == pytest.approx(0.217, abs=1e-3)
    assert residuals.norm(dim=1).median() == pytest.approx(0.399, abs=1e-3)
    assert_bundle_jacobian_is_exact(bundle)


# ---- the file format


def libmv(cameras: int, points: int, order: str = "<", unseen: bool = False) -> bytes:
    """A file in which every camera sees every point; numbers of images and tracks are neither small nor sorted."""
    out = b"vP" if order == "<" else b"VP"
    out += struct.pack(f"{order}8f", 100, 10, 20, 0.5, 0.25, 0.125, 0, 0)
    images = [1000 - 7 * i for i in range(cameras)] + [5] * unseen
    tracks = [3 + (5 * j) % 101 for j in range(points)]
    quarter_turn = (0, 1, 0, -1, 0, 0, 0, 0, 1)  # about z, column by column
    out += struct.pack(f"{order}i", len(images))
    out += b"".join(struct.pack(f"{order}i12f", image, *quarter_turn, i, 0, 10) for i, image in enumerate(images))
    out += struct.pack(f"{order}i", points)
    out += b"".join(struct.pack(f"{order}i3f", track, j, 2, 3) for j, track in enumerate(tracks))
    seen = [(image, track) for image in images[:cameras] for track in tracks]
    out += struct.pack(f"{order}i", len(seen))
    return out + b"".join(struct.pack(f"{order}iiff", *pair, 1, 2) for pair in seen)


@pytest.mark.parametrize("order", ["<", ">"])
def test_read_bundle(tmp_path: Path, order: str) -> None:
    (tmp_path / "b").write_bytes(libmv(3, 2, order, unseen=True))
    bundle = read_bundle(tmp_path / "b")
    assert (bundle.focal, bundle.principal, bundle.radial) == (100.0, (10.0, 20.0), (0.5, 0.25, 0.125))
    assert bundle.camera_index.tolist() == [0, 0, 1, 1, 2, 2]
    assert bundle.point_index.tolist() == [0, 1, 0, 1, 0, 1]
    turn = torch.tensor([0.0, 0.0, torch.pi / 2], dtype=torch.float64)
    torch.testing.assert_close(bundle.cameras[:, :3], turn.expand(3, 3))
    torch.testing.assert_close(bundle.cameras[:, 3:], torch.tensor([[i, 0, 10] for i in range(3)]).double())
    residuals = bundle.residuals(bundle.cameras, bundle.points)
    q = np.array([-2 + 2, 1 + 0, 3 + 10])  # a quarter turn of point 1, (1, 2, 3), before camera 2 at (2, 0, 10)
    y, r2 = q[:2] / q[2], (q[:2] / q[2]) @ (q[:2] / q[2])
    expected = 100 * y * (1 + 0.5 * r2 + 0.25 * r2**2 + 0.125 * r2**3) + [10, 20] - np.array([1, 2])
    np.testing.assert_allclose(residuals[5].numpy(), expected)


def test_read_bundle_refuses_what_is_cut_short_or_refers_to_nothing(tmp_path: Path) -> None:
    file, good = tmp_path / "b", libmv(3, 2)
    file.write_bytes(good[:-1])
    with pytest.raises(ValueError, match="ends early"):
        read_bundle(file)
    file.write_bytes(good[:-16] + struct.pack("<iiff", 12345, 3, 1, 2))
    with pytest.raises(ValueError, match="a marker refers to 12345, which the file does not describe"):
        read_bundle(file)


def test_brusselator_pattern() -> None:
    pattern = tj.jacobian_sparsity(brusselator, torch.rand(2, 6, 6))
    assert pattern.nnz == 72 * 6
    dense = torch.func.jacrev(brusselator)(torch.rand(2, 6, 6) + 1).reshape(72, 72) != 0
    assert torch.equal(pattern.to_dense(), dense)
