"""Reading sizes, and counting the bytes of tensors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from internals import PeakBytes, _free_in_group, _free_in_system, available, parse_bytes, peak_bytes, text_bytes

from torchjac import OptionError

KIB = 1024


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        (5, 5),
        ("5", 5),
        ("5B", 5),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1KiB", KIB),
        (" 1.5 mib ", 3 * KIB**2 // 2),
        ("2GB", 2 * 10**9),
        (".5GiB", KIB**3 // 2),
        ("1TiB", KIB**4),
    ],
)
def test_units(memory, size):
    assert parse_bytes(memory) == size


@pytest.mark.parametrize("memory", [0, -1, True, 1.5, "", "MiB", "5 MB/s", "1e3", "-1GB", "0.1B", "5XiB", (1,)])
def test_what_is_no_size_is_refused(memory):
    with pytest.raises(OptionError, match=r"memory=.*\n  expected: a positive number of bytes(.|\n)*memory='500MiB'"):
        parse_bytes(memory)


@given(st.integers(1, 2**50))
def test_sizes_are_written_as_no_less_and_nearly_the_same(size):
    assert size <= parse_bytes(text_bytes(size)) <= 1.02 * size + 1


def test_what_is_free(tmp_path):
    assert available(torch.device("cpu")) > 2**20
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:     5 kB\n")
    assert _free_in_system(tmp_path / "meminfo") == 5 * KIB
    assert _free_in_system(tmp_path / "nothing") == 2 * KIB**3
    assert _free_in_group(tmp_path) == float("inf")
    (tmp_path / "memory.current").write_text("70\n")
    for limit, free in (("100\n", 30), ("max\n", float("inf")), ("50\n", 0)):
        (tmp_path / "memory.max").write_text(limit)
        assert _free_in_group(tmp_path) == free


def test_the_peak_is_what_was_alive_at_once():
    def run():
        for _ in range(4):
            torch.zeros(KIB, dtype=torch.uint8)
        a = torch.zeros(KIB, dtype=torch.uint8)
        b = a[5:].view(-1)  # no memory of its own
        return a + 1, b

    assert peak_bytes(run) == 2 * KIB


def test_what_was_there_before_does_not_count_and_what_a_graph_keeps_does():
    x = torch.rand(KIB, dtype=torch.float64, requires_grad=True)
    with PeakBytes() as count:
        x.detach().mul_(1)
        assert count.live == 0
        y = x.exp().sin()  # keeps exp(x)
        assert count.live == 16 * KIB
        del y
        assert count.live == 0
    assert count.peak == 16 * KIB


def test_inside_vmap_whole_batches_count():
    x = torch.rand(KIB, dtype=torch.float64)
    assert peak_bytes(lambda: torch.vmap(lambda s: s * x)(torch.ones(4, 1).double().expand(4, KIB))) >= 32 * KIB
