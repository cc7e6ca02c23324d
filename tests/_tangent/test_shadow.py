"""Ids beside memory: views, in-place writes, complex parts, other element sizes, resized storages."""

from __future__ import annotations

import torch
from internals import IndexSets, Shadow


def shadow(n: int = 16) -> Shadow:
    return Shadow(IndexSets(n))


def test_a_view_reads_through_its_strides():
    s, x = shadow(), torch.zeros(2, 3)
    s.write(x, torch.arange(1, 7).reshape(2, 3))
    assert s.read(x.T[1:]).tolist() == [[2, 5], [3, 6]]
    assert s.read(x.flatten()[::2]).tolist() == [1, 3, 5]


def test_a_write_through_a_view_is_seen_by_the_whole():
    s, x = shadow(), torch.zeros(4)
    s.write(x, torch.tensor(1))
    s.write(x[1:3], torch.tensor([2, 3]))
    assert s.read(x).tolist() == [1, 2, 3, 1]


def test_memory_never_written_to_depends_on_nothing():
    s = shadow()
    assert s.read(torch.zeros(2, 2)).tolist() == [[0, 0], [0, 0]]
    assert not s.covers(torch.zeros(2))


def test_a_complex_number_is_two_real_ones():
    s, z = shadow(), torch.zeros(2, dtype=torch.complex128)
    s.write(torch.view_as_real(z), torch.tensor([[1, 1], [3, 0]]))
    assert s.read(z).tolist() == [1, 3]
    s.write(z[:1], torch.tensor([2]))
    assert s.read(torch.view_as_real(z)).tolist() == [[2, 2], [3, 0]]


def test_smaller_elements_inherit_from_the_larger_they_are_part_of():
    s, x = shadow(), torch.zeros(2, dtype=torch.float64)
    s.write(x, torch.tensor([1, 2]))
    assert s.read(x.view(torch.float32)).tolist() == [1, 1, 2, 2]
    s.write(x.view(torch.float32)[:2], torch.tensor([0, 0]))
    assert s.read(x).tolist() == [0, 2]


def test_a_storage_may_grow():
    s, x = shadow(), torch.zeros(2)
    s.write(x, torch.tensor([1, 2]))
    x.resize_(4)
    assert s.read(x).tolist() == [1, 2, 0, 0]


def test_a_sparse_tensor_shares_one_id():
    s, x = shadow(), torch.eye(2).to_sparse()
    s.write(x, torch.tensor([[1, 1], [1, 1]]))
    assert s.read(x).tolist() == [[1, 1], [1, 1]]


def test_ids_go_with_their_storage():
    s, x = shadow(), torch.zeros(2)
    s.write(x, torch.tensor([1, 2]))
    del x
    assert s.all_ids() == []
