"""What the command line names: functions, modules, inputs, files of tensors."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from torchjac.cli.target import CommandError, Input, load, target
from torchjac.cli.tensor_files import ReadError, read_arrays

CODE = """
import torch
from torch import nn
from beside import factor

def residual(x, y, k=2, *, scale=1.0):
    return factor * scale * x[1:] * y[:-1] ** k

def pick(x, i):
    return x[i]

def star(*xs):
    return xs[0] * xs[1]

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
    def forward(self, x):
        return self.layer(x)

class Wide(nn.Module):
    def __init__(self, width):
        super().__init__()

net = Net()
number = 3
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside.py").write_text("factor = 3.0")
    (tmp_path / "functions.py").write_text(CODE)
    yield str(tmp_path / "functions.py")
    for name in ("functions", "beside"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x:float64[2, 3]", Input("x", (2, 3), torch.float64)),
        ("float32[]", Input(None, (), torch.float32)),
        ("i:int64[10]<5", Input("i", (10,), torch.int64, 5)),
        ("k:3", Input("k", value=3)),
        ("s:'a'", Input("s", value="a")),
        ("0.5", Input(None, value=0.5)),
    ],
)
def test_inputs_are_read(text, expected):
    assert Input.parse(text) == expected


@pytest.mark.parametrize("text", ["x:float65[2]", "x:float64[2", "x:float64[-1]", "x:", "__import__('os')"])
def test_inputs_that_are_not(text):
    with pytest.raises(CommandError, match="--input"):
        Input.parse(text)


def test_a_function_of_a_file_that_imports_from_beside_it(code):
    what = target(f"{code}:residual", ["y:float32[5]", "x:float64[5]", "scale:2.0"], "ones")
    assert what.argnums == (0, 1)
    assert (what.args[0].dtype, what.args[1].dtype) == (torch.float64, torch.float32)
    assert what.f(*what.args).tolist() == [6.0] * 4


def test_a_function_of_a_module():
    assert load("torch:sin") is torch.sin
    assert load("torch.nn.functional:relu") is torch.nn.functional.relu


def test_random_inputs_are_the_same_each_time(code):
    first, again = (target(f"{code}:pick", ["float64[9]", "int64[20]<9"], "random") for _ in range(2))
    assert torch.equal(first.args[0], again.args[0])
    assert torch.equal(first.args[1], again.args[1])
    assert 0 <= int(first.args[1].min()) <= int(first.args[1].max()) < 9
    assert first.argnums == (0,)
    assert target(f"{code}:pick", ["float64[9]", "int64[2]"], "zeros").args[1].tolist() == [0, 0]


def test_modules_and_their_classes(code):
    made, instance = load(f"{code}:Net"), load(f"{code}:net")
    assert isinstance(made, torch.nn.Module)
    assert isinstance(instance, torch.nn.Module)
    assert target(f"{code}:Net", ["float32[4,3]"], "random").f(torch.rand(4, 3)).shape == (4, 2)


def test_wrt_and_starred_parameters(code):
    assert target(f"{code}:residual", ["x:float64[5]", "y:float64[5]"], "ones", wrt="y").argnums == (1,)
    with pytest.raises(CommandError, match="--wrt z"):
        target(f"{code}:residual", ["x:float64[5]", "y:float64[5]"], "ones", wrt="z")


@pytest.mark.parametrize(
    ("name", "inputs", "complaint"),
    [
        ("residual", [], "expected: module:function, or file.py:function"),
        ("no.such.module:f", [], "there is no module 'no.such.module'"),
        ("nowhere.py:f", [], "there is no file nowhere.py"),
        ("{code}:residula", [], "write instead: .*:residual"),
        ("{code}:number", [], "is a int"),
        ("{code}:Wide", [], r"cannot be made without arguments(.*\n)*.*net = Wide\(...\)"),
        ("{code}:residual", ["x:float64[5]"], r'missing a required argument: \'y\'(.*\n)*.*--input "y:float64\[10\]"$'),
        ("{code}:residual", ["z:float64[5]"], "--input for z"),
        ("{code}:residual", ["x:float64[5]", "x:float64[5]"], "--input for x"),
        ("{code}:pick", ["x:float64[5]", "i:int64[5]"], "without a bound"),
        ("{code}:pick", ["x:int64[5]<3", "i:int64[5]<3"], "no input is a floating point tensor"),
    ],
)
def test_what_cannot_be_followed_is_said(code, name, inputs, complaint):
    with pytest.raises(CommandError, match=complaint):
        target(name.format(code=code), inputs, "random")


# ---- files


def safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Written by the definition of the format."""
    header, body = {"__metadata__": {"by": "hand"}}, b""
    for name, array in tensors.items():
        kind = {"float64": "F64", "float32": "F32", "int64": "I64"}[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(body), len(body) + array.nbytes]}
        body += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def stored(tmp_path: Path, suffix: str, tensors: dict[str, np.ndarray]) -> str:
    path = tmp_path / f"stored{suffix}"
    if suffix == ".pt":
        torch.save({name: torch.from_numpy(array) for name, array in tensors.items()}, path)
    elif suffix == ".npz":
        np.savez(path, **tensors)
    else:
        safetensors(path, tensors)
    return str(path)


@pytest.mark.parametrize("suffix", [".pt", ".npz", ".safetensors"])
def test_inputs_from_files(tmp_path, code, suffix):
    x, y = np.arange(5.0), np.arange(5, dtype=np.float32)
    what = target(f"{code}:residual", [], stored(tmp_path, suffix, {"y": y, "x": x}))
    assert what.args[0].tolist() == x.tolist()
    assert what.args[1].dtype is torch.float32
    some = target(f"{code}:residual", ["x:float64[5]", "y:float64[5]"], stored(tmp_path, suffix, {"y": y}))
    assert some.args[1].dtype is torch.float64


@pytest.mark.parametrize("suffix", [".pt", ".npz", ".safetensors"])
def test_the_state_of_a_module_from_files(tmp_path, code, suffix):
    state = {"layer.weight": np.ones((2, 3), np.float32), "layer.bias": np.zeros(2, np.float32)}
    what = target(f"{code}:Net", ["x:float32[3]"], stored(tmp_path, suffix, state))
    assert what.f(torch.ones(3)).tolist() == [3.0, 3.0]
    with pytest.raises(CommandError, match="Missing key"):
        target(f"{code}:Net", ["x:float32[3]"], stored(tmp_path, suffix, {"layer.bias": np.zeros(2, np.float32)}))


def test_files_that_do_not_fit(tmp_path, code):
    file = stored(tmp_path, ".npz", {"x": np.zeros(4), "y": np.zeros(4), "extra": np.zeros(2)})
    with pytest.raises(CommandError, match="the file of --init has 'extra'"):
        target(f"{code}:residual", [], file)
    with pytest.raises(CommandError, match=r"x has shape \(4,\) in the file\n  expected: \(5,\)"):
        target(f"{code}:residual", ["x:float64[5]"], file)
    with pytest.raises(CommandError, match="--init zeroes: not a way to fill inputs"):
        target("torch:sin", ["float64[3]"], "zeroes")


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("trapped"),))


def test_files_execute_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Trap()}, "bad.pt")
    np.savez("bad.npz", x=np.array([Trap()], dtype=object))
    for name in ("bad.pt", "bad.npz"):
        with pytest.raises(ReadError, match="it cannot be read"):
            read_arrays(Path(name))
    assert not Path("trapped").exists()


@pytest.mark.parametrize("suffix", [".pt", ".npz", ".safetensors"])
def test_damaged_files_are_refused(tmp_path, suffix):
    path = Path(stored(tmp_path, suffix, {"x": np.arange(50.0)}))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ReadError, match="it cannot be read"):
        read_arrays(path)
    with pytest.raises(ReadError, match="there is no such file"):
        read_arrays(tmp_path / f"missing{suffix}")
