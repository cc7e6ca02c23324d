"""What does not fit is refused before it is allocated, with op, line, size and what to do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import torchjac as tj
from torchjac._base.memory import available
from torchjac._base.memory_limit import limited, require


def running_sums(x):
    return x.cumsum(0) * x.flip(0)


X = torch.rand(10_000, dtype=torch.float64)


def test_detection_refuses_sets_that_have_no_room_and_says_where_they_come_from():
    with limited(10**8), pytest.raises(tj.MemoryLimitError) as raised:
        tj.jacobian_sparsity(running_sums, X)
    text = str(raised.value)
    assert text.startswith("cumsum, at test_memory_limit.py:")
    assert "return x.cumsum(0) * x.flip(0)" in text
    assert "entries" in text
    assert "95.4MiB, as allowed" in text
    assert "sparsity=None" in text
    assert isinstance(raised.value, MemoryError)


def test_detection_is_exact_within_its_limit():
    with limited(10**8):
        assert tj.jacobian_sparsity(running_sums, X[:300]).nnz == 300 * 301 // 2 + 150


def test_entries_are_not_written_one_by_one_where_there_is_no_room():
    pattern = tj.SparsityPattern.full((10_000, 10_000))
    with limited(10**7):
        for read in (lambda: pattern.indices, lambda: pattern.rows, pattern.to_dense):
            with pytest.raises(tj.MemoryLimitError, match=r"100,000,000 entries|10000 x 10000 places"):
                read()


def test_a_dense_jacobian_needs_no_pattern_that_has_no_room():
    x = X[:600]
    with limited(2 * 10**6):
        J = tj.jacobian(running_sums, x)
    torch.testing.assert_close(J, torch.func.jacfwd(running_sums)(x))


def test_the_limit_ends_with_its_block():
    with limited(1), pytest.raises(tj.MemoryLimitError):
        require(2, "two bytes", instead="one")
    require(2, "two bytes", instead="one")


def test_half_of_what_is_free_is_the_limit_where_none_is_given():
    free = available(torch.device("cpu"))
    with pytest.raises(tj.MemoryLimitError, match="half of what is free"):
        require(free, "everything", instead="less")


PROGRAM = """
import resource, torch, torchjac as tj
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
def f(x):
    return x.cumsum(0) * x.flip(0)
try:
    tj.jacobian_sparsity(f, torch.rand(60_000, dtype=torch.float64))
except tj.MemoryLimitError as error:
    print("refused", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ulimit -v")
def test_a_process_under_ulimit_refuses_instead_of_ending():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("refused cumsum"), done.stderr
