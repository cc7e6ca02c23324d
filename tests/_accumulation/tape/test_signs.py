"""Signs moved to results: the same numbers from fewer ops."""

from __future__ import annotations

import pytest
import torch

from torchjac._accumulation.tape.recorder import Recorder
from torchjac._accumulation.tape.signs import move_signs

X = torch.tensor([[0.5, -1.5, 2.0], [3.0, 0.25, -0.75]], dtype=torch.float64)
Y = torch.tensor([[1.5, 2.5, -4.0], [0.125, 8.0, 3.5]], dtype=torch.float64)

PROGRAMS = {  # what runs -> ops that are left
    "opposite products": (lambda x, y: (-x * y) * 2 + (x * y) * -2, ["mul", "mul", "add", "neg"]),
    "a sum becomes a difference": (lambda x, y: x + -y, ["sub"]),
    "a difference becomes a sum": (lambda x, y: x - -y, ["add"]),
    "a difference of both": (lambda x, y: -x - -y, ["sub"]),
    "opposite differences": (lambda x, y: (x - y) * x + (y - x) * y, ["sub", "mul", "mul", "sub"]),
    "through moves": (lambda x, y: (-x)[1:] + y[:1].roll(1, 1), ["slice", "slice", "roll", "sub"]),
    "through a sum": (lambda x, y: (-x).sum(0) - y[0], ["sum", "select", "add", "neg"]),
    "in either order": (lambda x, y: x * y - y * x * 2, ["mul", "mul", "sub"]),
    "twice": (lambda x, y: x.neg().neg(), []),
    "times one": (lambda x, y: x * 1 / -1, ["neg"]),
    "not through a cosine": (lambda x, y: (-x).cos() * -y, ["neg", "cos", "mul", "neg"]),
    "nor with alpha": (lambda x, y: torch.add(-x, -y, alpha=3), ["neg", "neg", "add"]),
    "nor through another dtype": (lambda x, y: (-x).float() * y.float(), ["neg", "_to_copy", "_to_copy", "mul"]),
    "nor around a number": (lambda x, y: 1 - -x, ["neg", "rsub"]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_numbers_from_fewer_ops(name):
    run, ops = PROGRAMS[name]
    recorder = Recorder()
    x, y = X.clone(), Y.clone()
    recorder.take(x)
    recorder.take(y)
    with torch.no_grad(), recorder:
        out = run(x, y)
    tape = move_signs(recorder.program(out))
    made, run_tape = tape.module(), tape.runner()
    left = [node.target._schema.name.split("::")[1] for node in made.graph.nodes if node.op == "call_function"]
    assert sorted(left) == sorted(ops)
    for a, b in ((X, Y), (Y, X), (X - Y, X * Y)):
        assert torch.equal(made(a, b), run(a, b))
        assert torch.equal(run_tape(a, b), run(a, b))
