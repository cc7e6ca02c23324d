"""The page about a plan: what is in it, and that it works in a browser."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread

import torchjac as tj
from torchjac._plan.report.pyramid import entries, pyramid
from torchjac.cli.demo.problems import brusselator, generated_bundle


def page_data(path: Path) -> dict[str, Any]:
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)[1])


def decoded(text: str, dtype: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def arrow(x):
    return torch.cat([x.prod()[None], x[1:] * x[0]])


# ---- what is embedded


@pytest.mark.parametrize("shape", [(3, 5), (700, 300), (5000, 40), (1, 1)])
def test_densities_at_every_resolution(shape):
    rng = np.random.default_rng(0)
    pattern = tj.SparsityPattern.from_coo(rng.integers(shape[0], size=200), rng.integers(shape[1], size=200), shape)
    levels = pyramid(pattern)
    assert levels[-1]["height"] <= 128
    for level in levels:
        height, width = level["height"], level["width"]
        shades = decoded(level["data"], "u1").reshape(height, width)
        assert ((shades > 0) == (pattern.counts(height, width) > 0)).all()
    assert (levels[0]["height"], levels[0]["width"]) == (min(shape[0], 1024), min(shape[1], 1024))


@pytest.mark.parametrize("shape", [(7, 9), (1, 4), (4, 1)])
def test_entries_come_back(shape):
    pattern = tj.SparsityPattern.from_dense(np.random.default_rng(1).random(shape) < 0.3)  # with empty rows
    packed = entries(pattern)
    counts, steps = decoded(packed["counts"], "i4"), decoded(packed["steps"], "i4").copy()
    k = first = 0
    for row in counts:
        for at in range(row):
            first, steps[k] = (first + steps[k],) * 2 if at == 0 else (first, steps[k] + steps[k - 1])
            k += 1
    assert counts.tolist() == np.diff(pattern.indptr).tolist()
    assert steps.tolist() == pattern.indices.tolist()


def test_a_page_stays_small_where_entries_are_many():
    pattern = tj.SparsityPattern.full((10**6, 10**6))
    assert entries(pattern) is None
    assert sum(len(level["data"]) for level in pyramid(pattern)) < 10_000


def test_the_summary_in_the_page(tmp_path):
    x = torch.rand(40, dtype=torch.float64)
    plan = tj.plan_jacobian(arrow, x)
    plan.report(tmp_path / "r.html")
    facts = page_data(tmp_path / "r.html")["summary"]
    assert facts["shape"] == [40, 40]
    assert facts["entries"] == plan.pattern.nnz
    assert facts["coloring"]["colors"] == plan.coloring.num_colors
    assert [s["name"] for s in facts["strategies"] if s["chosen"]] == ["bidirectional"]
    dense = next(s for s in facts["strategies"] if s["name"] == "dense forward")
    assert dense["bytes"] == 40 * 40 * 8
    assert any("x.prod()" in cost["line"] for cost in facts["costs"])
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]


def test_plans_that_know_less(tmp_path):
    x = torch.rand(30)
    energy = tj.plan_hessian(lambda x: (x[1:] * x[:-1] ** 2).sum(), x, uplo="lower")
    energy.report(tmp_path / "h.html")
    assert page_data(tmp_path / "h.html")["summary"]["kind"] == "hessian"
    energy.plot()
    plan = tj.plan_jacobian(arrow, x)
    plan.save(tmp_path / "p.npz")
    tj.load_plan(tmp_path / "p.npz", arrow).report(tmp_path / "p.html")  # f has not run
    assert page_data(tmp_path / "p.html")["summary"]["costs"] == []
    tj.plan_jacobian(lambda x: x[:0], x).report(tmp_path / "e.html")
    tj.plan_jacobian(lambda x: x.cumsum(0).sum() * x, x).report(tmp_path / "d.html")
    assert page_data(tmp_path / "d.html")["colors"] is None


def test_colors_are_shown_where_the_plan_needs_none(tmp_path):
    plan = tj.plan_jacobian(brusselator, torch.rand(2, 6, 6), mode="accumulate")
    assert plan.coloring is None
    plan.report(tmp_path / "a.html")
    assert page_data(tmp_path / "a.html")["summary"]["coloring"]["lower_bound"] == 6


def test_source_lines_cannot_end_the_script(tmp_path):
    plan = tj.plan_jacobian(lambda x: x * x.sum() if "</script>" else x, torch.rand(3))
    plan.report(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text().count("</script>") == 2
    assert "</script>" in page_data(tmp_path / "r.html")["summary"]["costs"][0]["line"]


# ---- in a browser


@pytest.fixture(scope="module")
def browser():
    """Chromium by playwright: TORCHJAC_CHROMIUM, or one on the PATH, or playwright's own."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = os.environ.get("TORCHJAC_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    with api.sync_playwright() as play:
        try:
            started = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium to start: {str(error).splitlines()[0]}")
        yield started
        started.close()


class Page:
    """A report, opened without a network; what the page says, and the pixels that it draws."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.page = browser.new_page(viewport={"width": 1100, "height": 1400}, offline=True)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda r: r.url.startswith("file:") or self.errors.append(r.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.getElementById('where').textContent !== ''", timeout=30_000)

    def click(self, selector: str, **where: Any) -> None:
        self.page.click(selector, **where)
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def pixels(self) -> np.ndarray:
        png = base64.b64decode(self.page.evaluate("canvas.toDataURL('image/png')").split(",")[1])
        return np.round(255 * imread(io.BytesIO(png))).astype(np.uint8)


def test_the_report_is_clicked_through(browser, tmp_path):
    bundle = generated_bundle(6, 20, 60)
    plan = tj.plan_jacobian(bundle.residuals, bundle.cameras, bundle.points, argnums=(0, 1), mode="forward")
    plan.report(tmp_path / "r.html")
    page = Page(browser, tmp_path / "r.html")
    assert "96 inputs → 120 outputs" in page.text("h1")
    assert page.text("#where") == "rows 0 to 120, columns 0 to 96, every entry"
    shown = page.pixels()
    height, width = shown.shape[:2]
    dense = plan.pattern.to_dense().numpy()
    for i in range(0, 120, 7):  # the middle of each entry is inked, of each zero white
        for j in range(96):
            pixel = shown[int((i + 0.5) * height / 120), int((j + 0.5) * width / 96)]
            assert bool((pixel[:3] < 255).any()) == bool(dense[i, j]), (i, j)
    colored = {tuple(p) for p in shown.reshape(-1, 4)}
    page.click("#paint")
    assert len({tuple(p) for p in page.pixels().reshape(-1, 4)}) < len(colored)
    page.click("#paint")
    page.click("#in")
    assert page.text("#where") == "rows 30 to 90, columns 24 to 72, every entry"
    i, j = 59, int(plan.pattern.indices[plan.pattern.indptr[59]])
    page.click("text=args[0] float64[6, 6]")
    assert page.text("#where") == "rows 0 to 120, columns 0 to 36, every entry"
    box = page.page.locator("#canvas").bounding_box()
    at = {"x": (j + 0.5) / 36 * box["width"], "y": (i + 0.5) / 120 * box["height"]}
    page.click("#canvas", position=at)
    color = int(plan.coloring.colors[j])
    assert page.text("#entry") == f"({i}, {j}) an entry, product {color}: f(...) + {i}, by args[0] + {j}"
    page.click("#all")
    page.page.locator("#canvas").press("+")
    page.page.locator("#canvas").press("0")
    assert "colored forward ✓" in page.text("#strategies")
    assert "problems.py" in page.text("#costs")
    first = page.text("#costs tbody tr:first-child")
    page.click("#costs th:last-child")
    page.click("#costs th:last-child")
    assert page.text("#costs tbody tr:first-child") == first  # most first, as before
    page.click("#costs th:last-child")
    assert page.text("#costs tbody tr:first-child") != first
    assert page.errors == []


def test_a_million_rows_in_a_browser(browser, tmp_path):
    x = torch.rand(10**6)
    plan = tj.plan_jacobian(lambda x: x * x.roll(1), x, mode="reverse", layout=torch.sparse_csr)
    plan.report(tmp_path / "m.html")
    assert (tmp_path / "m.html").stat().st_size < 2_000_000
    page = Page(browser, tmp_path / "m.html")
    assert page.text("#where") == "rows 0 to 1,000,000, columns 0 to 1,000,000, density"
    assert (np.diagonal(page.pixels()[..., 0]) < 255).all()
    for _ in range(17):
        page.click("#in")
    assert re.match(r"rows 499,996 to 500,004, .*, every entry", page.text("#where"))
    shown = page.pixels()[..., :3]
    assert {False, True} == set((shown < 255).any(axis=2).ravel().tolist())
    assert page.errors == []


def test_both_directions_in_a_browser(browser, tmp_path):
    plan = tj.plan_jacobian(arrow, torch.rand(40))
    plan.report(tmp_path / "b.html")
    page, colors = Page(browser, tmp_path / "b.html"), plan.coloring.of_entries(plan.pattern)
    box = page.page.locator("#canvas").bounding_box()
    for k in (0, 17, 40, 41, plan.pattern.nnz - 1):
        i, j = int(plan.pattern.rows[k]), int(plan.pattern.indices[k])
        page.click("#canvas", position={"x": (j + 0.5) / 40 * box["width"], "y": (i + 0.5) / 40 * box["height"]})
        assert page.text("#entry").startswith(f"({i}, {j}) an entry, product {colors[k]}:")
    assert page.errors == []
