"""How many products run at once, and what happens when there is no memory for them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchjac as tj
from torchjac._products.chunk import fit, in_chunks, out_of_memory

CPU = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried 9 bytes."


@given(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 50)), min_size=1, max_size=3),
    st.integers(1, 500),
    st.integers(0, 5000),
    st.integers(0, 500),
)
def test_a_chunk_stays_within_the_room_and_is_missing_only_if_one_product_does_not_fit(lines, count, room, beside):
    def peak(size):
        return max(fixed + each * size for fixed, each in lines)

    chunk = fit(peak, count, room, beside=beside)
    assert 0 <= chunk <= count
    if chunk == count:
        assert peak(chunk) <= room
    elif chunk:
        assert peak(chunk) + beside <= room
    else:
        assert peak(1) + (beside if count > 1 else 0) > room


@given(st.integers(0, 1000), st.integers(1, 50), st.integers(1, 500), st.integers(0, 5000))
def test_on_a_line_the_chunk_is_the_largest(fixed, each, count, room):
    chunk = fit(lambda size: fixed + each * size, count, room)
    assert chunk == max(0, min(count, (room - fixed) // each))


def test_on_a_cpu_a_chunk_works_in_the_caches():
    assert fit(lambda size: size * 2**20, 1000, 10**12, cached=True) == 32
    assert fit(lambda size: size * 2**10, 100_000, 10**12, cached=True) == 8192


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_are_stacked(chunk, across):
    rows = torch.rand(7, 4)
    out, used = in_chunks(lambda a, b: rows[a:b], 7, chunk, across)
    assert torch.equal(out, rows)
    assert used == chunk
    assert chunk >= 7 or (out.T if across else out).is_contiguous()


def test_chunks_that_carry_a_graph_keep_it():
    rows = torch.rand(7, 4, requires_grad=True)
    out, _ = in_chunks(lambda a, b: rows[a:b] * 2, 7, 3)
    (gradient,) = torch.autograd.grad(out.sum(), rows)
    assert torch.equal(gradient, torch.full((7, 4), 2.0))


@pytest.mark.parametrize("error", [RuntimeError(CPU), torch.OutOfMemoryError("CUDA out of memory.")])
def test_without_memory_the_chunk_is_halved_and_what_is_finished_kept(error):
    asked = []

    def some(start, stop):
        asked.append((start, stop))
        if stop - start > (5 if start == 0 else 2):
            raise error
        return torch.arange(start, stop, dtype=torch.float32)[:, None]

    with pytest.warns(tj.TorchjacWarning, match="out of memory: 2 products at a time from now on"):
        out, chunk = in_chunks(some, 12, 5)
    assert out.flatten().tolist() == list(range(12))
    assert chunk == 2
    assert asked == [(0, 5), (5, 10), (5, 7), (7, 9), (9, 11), (11, 12)]


@pytest.mark.parametrize(("text", "match"), [("no such luck", "no such luck"), (CPU, "allocate memory")])
def test_other_errors_and_too_little_memory_for_one_product_are_raised(text, match):
    def some(start, stop):
        raise RuntimeError(text)

    with pytest.raises(RuntimeError, match=match):
        in_chunks(some, 4, 1)


def test_an_allocation_that_cannot_be_is_known_as_such():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_a_plan_whose_products_run_out_of_memory_goes_on_with_fewer_and_remembers(monkeypatch):
    from torchjac._products.reverse import Reverse

    batch = Reverse.batch

    def limited(self, seeds):
        if len(seeds) > 3:
            raise RuntimeError(CPU)
        return batch(self, seeds)

    x, A = torch.rand(9).double(), torch.rand(9, 9).double()
    plan = tj.plan_jacobian(lambda x: (A @ x).sin(), x, mode="reverse")
    monkeypatch.setattr(Reverse, "batch", limited)
    with pytest.warns(tj.TorchjacWarning, match="2 products at a time"):
        J = plan(x)
    assert torch.allclose(J, (A @ x).cos()[:, None] * A)
    assert plan.chunk == 2
    assert torch.equal(plan(x), J)
