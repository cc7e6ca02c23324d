"""Jacobians larger than memory: right, resumable after anything, and never a file that looks complete and is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles import assert_close, dense_jacobian
from torch import nn

import torchjac as tj
from torchjac._base import progress
from torchjac.stream.lines import JacobianLines

SMALL = "12KiB"  # a few lines of a 60 x 60 matrix


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def mixed(x):
    return (x.cumsum(0) * x.sin()).roll(1)


def tall(x):
    return torch.cat([mixed(x), x.exp(), x.sum()[None]])


def wide(x):
    return mixed(x)[::2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "J.npy"


def left_over(path):
    return sorted(p.name for p in path.parent.iterdir() if p != path)


class Killed(BaseException):
    """What no ``except Exception`` would catch."""


def interrupted(monkeypatch, f, *args, path, after=3, **options):
    """The call, ended after some blocks."""
    compute, blocks = JacobianLines.compute, []

    def until(self, start, stop):
        if start:
            blocks.append(start)
        if len(blocks) > after:
            raise Killed
        return compute(self, start, stop)

    with monkeypatch.context() as context:
        context.setattr(JacobianLines, "compute", until)
        with pytest.raises(Killed):
            tj.write_jacobian(f, *args, path=path, memory=SMALL, **options)


def computed(monkeypatch, f, *args, path, **options):
    """The call, and from which line on it computed."""
    compute, starts = JacobianLines.compute, []
    monkeypatch.setattr(JacobianLines, "compute", lambda s, a, b: starts.append(a) or compute(s, a, b))
    tj.write_jacobian(f, *args, path=path, memory=SMALL, **options)
    return min(start for start in starts[2:]) if len(starts) > 2 else None  # the first two measure


@pytest.mark.parametrize("memory", [SMALL, "1GiB"])
@pytest.mark.parametrize("f", [mixed, tall, wide])
def test_the_file_is_the_jacobian(f, memory, path):
    x = rand(60)
    assert tj.write_jacobian(f, x, path=path, memory=memory) == path
    J = np.load(path, mmap_mode="r")
    assert J.flags.f_contiguous == (f is tall) or f is mixed
    assert_close(torch.from_numpy(np.array(J)), dense_jacobian(f, (x,)))
    assert left_over(path) == []


def test_several_inputs_trees_and_argnums(path):
    def f(k, p):
        return {"a": p["w"].sin() * k, "b": p["v"].sum() * p["w"]}

    args = (2.0, {"w": torch.rand(3, 2), "v": torch.rand(5)})
    tj.write_jacobian(f, *args, path=path, argnums=1)
    got = torch.from_numpy(np.load(path))
    assert got.dtype is torch.float32
    assert_close(got, dense_jacobian(lambda p: f(2.0, p), (args[1],)))


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (3, 1)])
def test_degenerate_shapes(shape, path):
    A, x = rand(*shape), rand(shape[1])
    tj.write_jacobian(lambda x: A @ x, x, path=path)
    assert np.array_equal(np.load(path), A.numpy())


def test_memory_holds():
    code = """
        import resource, torch, torchjac as tj
        A = torch.rand(16, 3000)
        def f(x):
            return (A.T @ (A @ x.sin())).cos()
        tj.write_jacobian(f, torch.rand(3000), path="warm.npy", memory="4MiB")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tj.write_jacobian(f, torch.rand(3000), path="J.npy", memory="8MiB")  # the matrix has 36 MB
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    assert int(run(code).stdout) < 16 * 1024  # KiB; the allocator keeps some of what was freed


def run(code, folder=None, **options):
    program = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(program, check=True, capture_output=True, text=True, cwd=folder, **options)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


# ---- resuming

SLOW = """
import sys, time, numpy as np, torch, torchjac as tj
calls = 0
def slow(x):
    global calls
    calls += 1
    time.sleep(0.02)
    return (x.cumsum(0) * x.sin()).roll(1)
x = torch.linspace(1, 2, 300, dtype=torch.float64)
tj.write_jacobian(slow, x, path="J.npy", memory="60KiB")
print(calls)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL, which this system does not have")
def test_a_process_that_was_killed_is_taken_up(path):
    journal = path.with_name("J.npy.part.journal")
    process = subprocess.Popen([sys.executable, "-c", SLOW], cwd=path.parent)
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 5):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert left_over(path) == ["J.npy.part", "J.npy.part.journal"]
    assert not path.exists()

    again = int(run(SLOW, path.parent).stdout)
    x = torch.linspace(1, 2, 300, dtype=torch.float64)
    assert_close(torch.from_numpy(np.load(path)), dense_jacobian(mixed, (x,)))
    assert left_over(path) == []
    whole = int(run(SLOW, path.parent).stdout)
    assert again < whole


@pytest.mark.parametrize("f", [mixed, tall, wide])
def test_blocks_on_the_disk_are_not_computed_again(f, path, monkeypatch):
    x = rand(60)
    interrupted(monkeypatch, f, x, path=path)
    assert not path.exists()
    assert computed(monkeypatch, f, x, path=path) > 0
    assert_close(torch.from_numpy(np.load(path)), dense_jacobian(f, (x,)))


def test_a_journal_line_that_was_cut_short_does_not_count(path, monkeypatch):
    x = rand(60)
    interrupted(monkeypatch, mixed, x, path=path)
    journal = path.with_name("J.npy.part.journal")
    *lines, last, _ = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([*lines, last[:-1] or last]))
    assert computed(monkeypatch, mixed, x, path=path) == int(lines[-1])
    assert_close(torch.from_numpy(np.load(path)), dense_jacobian(mixed, (x,)))


@pytest.mark.parametrize("header", [b"", b'{"torchjac": "0.1', None])
def test_a_journal_without_a_header_means_that_nothing_is_written(header, path, monkeypatch):
    x = rand(60)
    interrupted(monkeypatch, mixed, x, path=path)
    journal = path.with_name("J.npy.part.journal")
    journal.unlink() if header is None else journal.write_bytes(header)
    assert computed(monkeypatch, mixed, x, path=path) == 0
    assert_close(torch.from_numpy(np.load(path)), dense_jacobian(mixed, (x,)))


def test_a_journal_alone_is_left_over(path, monkeypatch):
    x = rand(60)
    interrupted(monkeypatch, mixed, x, path=path)
    path.with_name("J.npy.part").unlink()
    assert computed(monkeypatch, mixed, x, path=path) == 0
    assert left_over(path) == []


@pytest.mark.skipif(os.name != "posix", reason="needs file locks of POSIX")
def test_two_at_once_are_refused(path):
    def nested(x):
        if path.with_name("J.npy.part").exists():
            tj.write_jacobian(mixed, x.detach(), path=path)
        return mixed(x)

    with pytest.raises(tj.FileError, match=r"another write_jacobian to .*J.npy is running"):
        tj.write_jacobian(nested, rand(60), path=path)


def test_an_old_file_stays_until_the_new_one_is_complete(path, monkeypatch):
    path.write_text("precious")
    x = rand(60)
    interrupted(monkeypatch, mixed, x, path=path)
    assert path.read_text() == "precious"
    tj.write_jacobian(mixed, x, path=path)
    assert np.load(path).shape == (60, 60)


def test_random_functions_go_on_with_the_same_numbers(path, monkeypatch):
    def dropped(x):
        return torch.dropout(x.cumsum(0), 0.5, True)

    x = rand(60)
    interrupted(monkeypatch, dropped, x, path=path)
    torch.manual_seed(99)
    tj.write_jacobian(dropped, x, path=path, memory=SMALL)
    got = torch.from_numpy(np.load(path)) / 2
    rows = got.sum(1) > 0
    assert 0 < rows.sum() < 60
    assert torch.equal(got, torch.tril(rand(60, 60) * 0 + 1) * rows[:, None])


OTHERS = {
    "inputs": (lambda: (mixed, rand(60)), {}),
    "one bit": (lambda: (mixed, torch.full((60,), 0.5 + 2**-53, dtype=torch.float64)), {}),
    "shape": (lambda: (mixed, rand(61)), {}),
    "dtype": (lambda: (mixed, torch.full((60,), 0.5)), {}),
    "name": (lambda: (tall, torch.full((60,), 0.5, dtype=torch.float64)), {}),
    "plain argument": (lambda: (mixed, torch.full((60,), 0.5, dtype=torch.float64), 1), {}),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_jacobian_is_not_mixed_in(other, path, monkeypatch):
    interrupted(monkeypatch, mixed, torch.full((60,), 0.5, dtype=torch.float64), path=path)
    (f, *args), options = OTHERS[other][0](), OTHERS[other][1]
    call = f if len(args) == 1 else lambda x, k: f(x) * k
    with pytest.raises(tj.FileError, match=r"of another Jacobian(.*\n)*.*resume=False"):
        tj.write_jacobian(call, *args, path=path, **options)
    assert left_over(path) == ["J.npy.part", "J.npy.part.journal"]
    tj.write_jacobian(call, *args, path=path, resume=False, **options)
    assert_close(torch.from_numpy(np.load(path)), dense_jacobian(call, args))


def test_parameters_that_changed_are_noticed(path, monkeypatch):
    model, x = nn.Linear(60, 60).double(), rand(60)
    interrupted(monkeypatch, model, x, path=path)
    with torch.no_grad():
        model.weight.mul_(1.1)
    with pytest.raises(tj.FileError, match="holds other derivatives than f has now"):
        tj.write_jacobian(model, x, path=path)


@pytest.mark.parametrize("damage", ["size", "journal", "header", "far"])
def test_damage_is_noticed(damage, path, monkeypatch):
    x = rand(60)
    interrupted(monkeypatch, mixed, x, path=path)
    part, journal = path.with_name("J.npy.part"), path.with_name("J.npy.part.journal")
    match damage:
        case "size":
            os.truncate(part, 1000)
        case "header":
            part.write_bytes(b"x" * part.stat().st_size)
        case "journal":
            journal.write_bytes(b"what is this\n")
        case "far":
            journal.write_bytes(journal.read_bytes() + b"1000\n")
    with pytest.raises(tj.FileError, match=r"damaged(.*\n)*.*resume=False"):
        tj.write_jacobian(mixed, x, path=path)


class Wrong(torch.autograd.Function):
    generate_vmap_rule = False

    @staticmethod
    def forward(x):
        return x.sin()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, g):
        return WrongWhenBatched.apply(g, *ctx.saved_tensors)


class WrongWhenBatched(torch.autograd.Function):
    @staticmethod
    def forward(g, x):
        return g * x.cos()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def vmap(info, in_dims, g, x):
        return 2 * g * x.cos(), 0


def test_batched_products_that_are_wrong_are_noticed(path):
    def wrong(x):
        return Wrong.apply(x).cumsum(0)

    x = rand(60)
    with pytest.raises(tj.DerivativeMismatchError, match="differ from a product of torch"):
        tj.write_jacobian(wrong, x, path=path, memory="1MiB")
    assert not path.exists()
    with pytest.raises(tj.DerivativeMismatchError):  # the second call too
        tj.write_jacobian(wrong, x, path=path, memory="1MiB")


# ---- errors and progress


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"path": "J.txt"}, tj.OptionError, r"path='J.txt'\n  expected: .*\.npy or \.zarr\n.*path='J.npy'"),
        ({"memory": "10B"}, tj.OptionError, "memory='10B' is too small(.*\n)*.*write instead: memory="),
        ({"memory": "lots"}, tj.OptionError, "memory='lots'"),
        ({"argnums": 3}, tj.InputError, "argnums=3"),
    ],
)
def test_bad_options_are_told(options, error, text):
    with pytest.raises(error, match=text):
        tj.write_jacobian(mixed, rand(9), **{"path": "J.npy"} | options)
    assert not os.listdir(".")


def test_the_least_memory_that_is_named_works():
    with pytest.raises(tj.OptionError) as caught:
        tj.write_jacobian(mixed, rand(60), path="J.npy", memory="10B")
    tj.write_jacobian(mixed, rand(60), path="J.npy", memory=caught.value.instead.split("'")[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.complex64])
def test_dtypes_that_have_no_such_file_are_refused(dtype):
    with pytest.raises(tj.InputError, match="a Jacobian of"):
        tj.write_jacobian(lambda x: x * x, torch.ones(3, dtype=dtype), path="J.npy")


def test_a_folder_in_the_way_is_not_deleted(tmp_path):
    (tmp_path / "J.npy").mkdir()
    with pytest.raises(tj.FileError, match=r"is a folder(.*\n)*.*remove it first"):
        tj.write_jacobian(mixed, rand(9), path=tmp_path / "J.npy")


@pytest.mark.parametrize("wanted", [True, False])
def test_progress_is_shown_if_wanted(tmp_path, monkeypatch, wanted):
    seen = []
    monkeypatch.setattr(progress, "is_watched", lambda _: True)
    monkeypatch.setattr(progress, "Bar", lambda name, *_: SimpleNamespace(at=lambda *a: seen.append(a), end=list))
    tj.write_jacobian(mixed, rand(60), path=tmp_path / "J.npy", progress=wanted)
    assert bool(seen) is wanted
    assert all(done < count for done, count in seen)


def test_zarr(tmp_path, monkeypatch):
    zarr = pytest.importorskip("zarr", reason="the extra zarr is not installed")
    for f in (mixed, tall):
        path, x = tmp_path / f"{f.__name__}.zarr", rand(60)
        interrupted(monkeypatch, f, x, path=path)
        assert not path.exists()
        assert computed(monkeypatch, f, x, path=path) > 0
        assert_close(torch.from_numpy(zarr.open_array(str(path), mode="r")[:]), dense_jacobian(f, (x,)))
        with pytest.raises(tj.FileError, match="is a folder"):
            tj.write_jacobian(f, x, path=path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mixed.zarr", "tall.zarr"]


def test_zarr_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(tj.OptionError, match=r"zarr is not installed(.*\n)*.*pip install 'torchjac\[zarr\]'"):
        tj.write_jacobian(mixed, rand(9), path="J.zarr")
