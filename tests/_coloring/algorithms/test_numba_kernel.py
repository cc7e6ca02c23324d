"""Kernels: compiled they do what they do in plain Python, and Numba is imported only when it pays."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse

from torchjac import SparsityPattern, color
from torchjac._coloring.algorithms import numba_kernel
from torchjac._coloring.algorithms.order import ORDERS


def colors_of(pattern, **options):
    coloring = color(pattern, **options)
    if coloring.partition == "bidirectional":
        return np.concatenate([coloring.column_colors, coloring.row_colors]).tolist()
    return coloring.colors.tolist()


REQUESTS = [
    *({"partition": "column", "order": order} for order in [*ORDERS, "auto"]),
    {"partition": "row"},
    *(
        {"partition": kind, "recovery": how}
        for kind in ("symmetric", "bidirectional")
        for how in ("direct", "substitution")
    ),
]


@pytest.mark.parametrize("options", REQUESTS, ids=lambda options: "-".join(options.values()))
def test_compiled_and_plain_agree(monkeypatch, options):
    matrix = scipy.sparse.random_array((90, 90), density=0.06, rng=np.random.default_rng(1))
    pattern = SparsityPattern.from_scipy(matrix + matrix.T)
    monkeypatch.setattr(numba_kernel.kernel, "given", lambda self, work: self.plain)
    plain = colors_of(pattern, **options)
    monkeypatch.setattr(numba_kernel.kernel, "given", lambda self, work: self.compiled)
    assert colors_of(pattern, **options) == plain


@numba_kernel.inlined
def _twice(x):
    return 2 * x


@numba_kernel.kernel
def _sum_of_doubles(numbers):
    total = 0
    for x in numbers:
        total += _twice(x)
    return total


def test_a_kernel_compiles_with_its_helpers():
    assert _sum_of_doubles.compiled(np.arange(4)) == _sum_of_doubles.plain(np.arange(4)) == 12


def test_a_first_small_coloring_does_not_import_numba():
    code = """
import sys, numpy as np
from torchjac import SparsityPattern, color
n = 100
tridiagonal = abs(np.arange(n)[:, None] - np.arange(n)) < 2
for partition in ("column", "row", "symmetric", "bidirectional"):
    color(SparsityPattern.from_dense(tridiagonal), partition)
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
