"""Tapes: each call once, nothing that is not needed, and the same from a Python function and from a graph."""

from __future__ import annotations

import gc
import weakref

import torch
from accumulation_cases import program

from torchjac._accumulation.tape.recorder import Recorder
from torchjac._accumulation.tape.tape import INPUT, Tape
from torchjac._accumulation.tensor_map import TensorMap

aten = torch.ops.aten


def test_a_call_is_made_once_and_numbers_are_told_apart():
    tape = Tape()
    x = tape.input()
    first, new = tape.call(aten.mul.Tensor, (x, 2.0))
    assert new
    assert tape.call(aten.mul.Tensor, (x, 2.0)) == (first, False)
    assert tape.known(aten.mul.Tensor, (x, 2.0)) is first
    others = [tape.call(aten.mul.Tensor, (x, number))[0] for number in (2, True, 0.0, -0.0)]
    assert len({first, *others}) == 5


def test_what_is_not_needed_is_dropped_and_inputs_stay():
    tape = Tape()
    x, y = tape.input(), tape.input()
    tape.call(aten.sin.default, (y,))
    out, _ = tape.call(aten.cos.default, (x,))
    tape.end(out)
    assert [node.target for node in tape.nodes] == [INPUT, INPUT, aten.cos.default]
    t = torch.rand(3)
    assert torch.equal(tape.runner()(t, t), t.cos())
    assert torch.equal(tape.module()(t, t), t.cos())


def test_lists_slices_keywords_and_tensors_that_are_written_to_later():
    weight = torch.rand(4, dtype=torch.float64)
    tape = Tape()
    x, w = tape.input(), tape.tensor(weight)
    both, _ = tape.call(aten.cat.default, ([x, w],), {})
    wide, _ = tape.call(aten.to.dtype, (both,), {"dtype": torch.float32})
    part, _ = tape.call(lambda t, at: t[at], (wide, slice(1, None, 2)))
    tape.end(part)
    run, graph = tape.runner(), tape.module()
    at = torch.rand(3, dtype=torch.float64)
    for _ in range(2):
        assert torch.equal(run(at), torch.cat([at, weight]).float()[1::2])
        assert torch.equal(graph(at), run(at))
        weight.mul_(3)


def test_tensors_are_let_go_after_their_last_use():
    alive: list[weakref.ref] = []

    def step(t):
        assert sum(one() is not None for one in alive) <= 1
        out = t + 1
        alive.append(weakref.ref(out))
        return out

    tape = Tape()
    node = tape.input()
    for k in range(6):
        node, _ = tape.call(lambda t, k: step(t), (node, k))
    tape.end(node)
    assert torch.equal(tape.runner()(torch.zeros(2)), torch.full((2,), 6.0))


def test_what_is_beside_a_tensor_goes_with_it():
    found: TensorMap[object] = TensorMap()
    value = type("Value", (), {})()
    seen = weakref.ref(value)
    t, other = torch.zeros(2), torch.zeros(2)
    found[t] = value
    assert found.get(t) is value
    assert found.get(other) is None
    del t, value
    assert seen() is None  # without a look by the garbage collector


def test_a_reading_leaves_nothing_behind_for_the_garbage_collector():
    x = torch.rand(9)
    recorder = Recorder()
    held = weakref.ref(recorder)
    recorder.take(x)
    with torch.no_grad(), recorder:
        x.sin()
    gc.disable()
    try:
        del recorder
        assert held() is None
    finally:
        gc.enable()


def test_a_program_does_not_keep_the_arguments_it_was_made_at():
    x = torch.rand(80, 3)
    memory = weakref.ref(x.untyped_storage())
    made = program(lambda x: x.sin() * x.roll(1, 1), (x,))[0]  # the pattern may: it can be asked why
    del x
    gc.collect()
    assert memory() is None
    assert made.ops
