"""Pictures of patterns and colorings, and what a notebook shows."""

from __future__ import annotations

import base64
import html
import re
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchjac as tj

matplotlib = pytest.importorskip("matplotlib", reason="the extra plot is not installed")
matplotlib.use("Agg")


def stencil(x):
    return x[1:] * x[:-1]


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**30))
def test_counts_are_those_of_the_blocks(m, n, height, width, seed):
    dense = np.random.default_rng(seed).random((m, n)) < 0.4
    height, width = min(m, height), min(n, width)
    expected = np.zeros((height, width), int)
    for i, j in np.argwhere(dense):
        expected[i * height // m, j * width // n] += 1
    assert (tj.SparsityPattern.from_dense(dense).counts(height, width) == expected).all()


def test_a_pattern_is_drawn_and_no_entry_is_lost():
    pattern = tj.SparsityPattern.from_coo([0, 99_999], [99_999, 5], (100_000, 100_000))
    ax = pattern.plot(row_blocks=[10], column_blocks=[20, 30])
    (image,) = ax.get_images()
    assert np.argwhere(image.get_array() > 0.2).tolist() == [[0, 599], [599, 0]]
    assert len(ax.lines) == 3
    assert ax.get_title() == "100,000 x 100,000, 2 entries"
    assert image.get_extent() == [0, 100_000, 100_000, 0]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_small_shapes(shape):
    pattern = tj.SparsityPattern.full(shape)
    ax = pattern.plot()
    assert len(ax.get_images()) == (0 not in shape)
    assert ("<img" in pattern._repr_html_()) is (0 not in shape)
    assert "colors" in tj.color(pattern).plot(pattern).get_title()
    tj.color(pattern).plot()


def test_a_dense_pattern_is_not_written_out():
    pattern = tj.SparsityPattern.full((10**6, 10**6))
    ax = pattern.plot()
    assert (ax.get_images()[0].get_array() == 1).all()
    assert "1,000,000" in ax.get_title()


def arrow(n):
    return tj.SparsityPattern.from_coo([*[0] * n, *range(n), *range(n)], [*range(n), *[0] * n, *range(n)], (n, n))


@pytest.mark.parametrize("partition", ["column", "row", "symmetric", "bidirectional"])
def test_entries_have_the_color_of_a_product_that_holds_them(partition):
    pattern = arrow(7)
    coloring = tj.color(pattern, partition)
    colors = coloring.of_entries(pattern)
    assert colors.shape == (pattern.nnz,)
    if coloring.partition == "bidirectional":
        for i, j, color in zip(pattern.rows, pattern.indices, colors, strict=True):
            forward = color < coloring.num_forward
            assert color == (coloring.column_colors[j] if forward else coloring.num_forward + coloring.row_colors[i])
    assert (colors < coloring.num_colors).all()
    assert sum(coloring.sizes()) >= 1
    ax = coloring.plot(pattern)
    pixels = np.asarray(ax.get_images()[0].get_array())
    assert ((pixels[..., 3] > 0) == pattern.to_dense().numpy()).all()
    assert len({tuple(p) for p in pixels[pixels[..., 3] > 0]}) == len(set(colors.tolist()))


@given(st.integers(1, 8), st.integers(0, 2**30), st.sampled_from(["direct", "substitution"]))
def test_the_color_of_an_entry_is_that_of_a_product_it_is_recovered_from(n, seed, recovery):
    half = np.random.default_rng(seed).random((n, n)) < 0.3
    pattern = tj.SparsityPattern.from_dense(half | half.T)
    for coloring in (tj.color(pattern, "symmetric", recovery=recovery), tj.color(pattern, "bidirectional")):
        colors = coloring.of_entries(pattern)
        for i, j, color in zip(pattern.rows, pattern.indices, colors, strict=True):
            if coloring.partition == "bidirectional":
                if color < coloring.num_forward:
                    same = [b for a, b in zip(pattern.rows, pattern.indices, strict=True) if a == i]
                    assert [b for b in same if coloring.column_colors[b] == color] == [j]
                else:
                    same = [a for a, b in zip(pattern.rows, pattern.indices, strict=True) if b == j]
                    assert [a for a in same if coloring.row_colors[a] == color - coloring.num_forward] == [i]
            elif recovery == "direct":  # J e_color reads (i, j) alone, or (j, i)
                members = coloring.colors == color
                reads = [pattern.to_dense().numpy()[row, members].sum() for row in (i, j)]
                assert (coloring.colors[j] == color and reads[0] == 1) or (
                    coloring.colors[i] == color and reads[1] == 1
                )
            else:
                assert color in (coloring.colors[i], coloring.colors[j])
        lower = tj.SparsityPattern.from_dense(np.tril(half | half.T))
        if coloring.partition != "bidirectional":
            keep = pattern.rows >= pattern.indices
            assert (coloring.of_entries(lower) == colors[keep]).all()


def test_without_a_pattern_a_coloring_shows_how_many_share_a_product():
    ax = tj.color(tj.jacobian_sparsity(stencil, torch.rand(11))).plot()
    assert [bar.get_height() for bar in ax.patches] == [6, 5]


def test_a_coloring_of_another_shape_is_refused():
    with pytest.raises(tj.PatternError, match=r"a coloring of shape \(7, 7\) for a pattern of shape \(8, 8\)"):
        tj.color(arrow(7)).plot(arrow(8))


def test_it_draws_on_the_axes_that_it_is_given():
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert arrow(5).plot(ax) is ax
    plan = tj.plan_jacobian(lambda x, y: (x * y, x.sin()), torch.rand(5), torch.rand(5), argnums=(0, 1))
    assert plan.plot(ax) is ax
    assert [line.get_ydata()[0] for line in ax.lines] == [5, 0]  # before the second output; the second input


def test_without_matplotlib_the_install_line_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(tj.OptionError, match=r"write instead: pip install 'torchjac\[plot\]'"):
        arrow(3).plot()
    assert "<img" in arrow(3)._repr_html_()


# ---- notebooks


def test_the_thumbnail_is_a_png_of_the_pattern():
    from matplotlib.image import imread

    pattern = arrow(6)
    uri = re.search(r'src="data:image/png;base64,([^"]+)"', pattern._repr_html_())
    import io

    image = imread(io.BytesIO(base64.b64decode(uri[1])))
    assert ((image[..., 0] < 1) == pattern.to_dense().numpy()).all()


def test_png_of_one_row():
    page = tj.SparsityPattern.from_dense(np.array([[False, True]]))._repr_html_()
    data = base64.b64decode(re.search(r'base64,([^"]+)"', page)[1])
    at = data.index(b"IDAT")
    size = int.from_bytes(data[at - 4 : at], "big")
    assert zlib.decompress(data[at + 4 : at + 4 + size]) == bytes([0, 255, 255, 255, 8, 48, 107])


def test_what_notebooks_show_is_escaped():
    def f(x):
        return x * 2 if x.sum() > 0 and "<script>" else x

    plan = tj.plan_jacobian(f, torch.rand(4))
    for thing in (plan, plan.pattern, tj.color(plan.pattern)):
        assert "<script>" not in thing._repr_html_()
    assert html.escape('"<script>"') in plan._repr_html_()
    assert "2 column colors" in tj.color(tj.jacobian_sparsity(stencil, torch.rand(9)))._repr_html_()
