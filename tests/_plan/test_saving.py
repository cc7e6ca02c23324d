"""Plans in files: what is loaded evaluates like what was saved, and a file that does not fit is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from oracles import assert_close, dense_jacobian

import torchjac as tj


def rand(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def stencil(x):
    return x * x.roll(1) + x.roll(-1).sin()


def arrow(x):
    return torch.cat([x[:-1] * x[1:] * x[0], x.sum()[None]])


def tree(params, k, scale=2.0, flag=None):
    return {"a": params["w"] ** k * scale, "b": [params["b"][0].sin().sum()[None]]}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "plan.npz"


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("f", [stencil, arrow, lambda x: x.sum() * x], ids=["stencil", "arrow", "dense"])
def test_a_loaded_plan_is_the_saved_one(f, mode, path):
    plan = tj.plan_jacobian(f, rand(40), mode=mode, layout=torch.sparse_csr, ravel=True, check="always")
    plan.save(path)
    loaded, x = tj.load_plan(path, f), rand(40)
    assert repr(loaded) == repr(plan)
    assert (loaded.options, loaded.mode, loaded.pattern) == (plan.options, plan.mode, plan.pattern)
    assert (loaded.pattern.scope, loaded.pattern.notes) == (plan.pattern.scope, plan.pattern.notes)
    assert str(loaded.coloring) == str(plan.coloring)
    assert_close(loaded(x).to_dense(), dense_jacobian(f, (x,)))
    assert torch.equal(loaded.values(x), plan.values(x))


def test_trees_and_plain_arguments(path):
    args = (OrderedDict(w=rand(3), b=[rand(2)]), 2, 0.5, None)
    plan = tj.plan_jacobian(tree, *args)
    plan.save(path)
    loaded = tj.load_plan(path, tree)
    got, expected = loaded(*args), plan(*args)
    assert torch.equal(got["a"]["w"], expected["a"]["w"])
    assert torch.equal(got["b"][0]["b"][0], expected["b"][0]["b"][0])
    with pytest.raises(tj.SignatureError, match=r"\['w'\] .*planned float64\[3\] on cpu"):
        loaded(OrderedDict(w=rand(4), b=[rand(2)]), 2, 0.5, None)


def test_a_pattern_that_was_given_and_aux(path):
    plan = tj.plan_jacobian(lambda x: (stencil(x), x.sum()), rand(9), sparsity=np.eye(9) > -1, has_aux=True)
    plan.save(path)
    loaded, x = tj.load_plan(path, lambda x: (stencil(x), x.sum())), rand(9)
    J, aux = loaded(x)
    assert_close(J, dense_jacobian(stencil, (x,)))
    assert aux == x.sum()


def test_many_equal_rows_stay_small(path):
    tj.plan_jacobian(lambda x: x.sum() * torch.ones(1_000_000), rand(1000), check=False).save(path)
    assert path.stat().st_size < 9_000_000  # 10^9 entries


def test_a_loaded_plan_detects_and_colors_nothing(path):
    larger, x = abs(np.arange(9)[:, None] - np.arange(9)) != 4, rand(9)  # than what would be detected
    plan = tj.plan_jacobian(stencil, x, mode="forward", sparsity=larger)
    plan.save(path)
    with np.load(path) as npz:
        arrays = dict(npz)
    arrays["coloring.colors"] = colors = plan.num_products - 1 - plan.coloring.colors  # which nobody would give
    np.savez(path, **arrays)
    loaded = tj.load_plan(path, stencil)
    assert_close(loaded(x), dense_jacobian(stencil, (x,)))
    assert loaded.pattern == plan.pattern
    assert loaded.coloring.colors.tolist() == colors.tolist() != plan.coloring.colors.tolist()


def test_saving_replaces_a_file_only_by_a_complete_one(path, monkeypatch):
    path.write_text("precious")
    with monkeypatch.context() as context:
        context.setattr(os, "fsync", lambda _: 1 / 0)  # the disk is full
        with pytest.raises(ZeroDivisionError):
            tj.plan_jacobian(stencil, rand(9)).save(path)
    assert path.read_text() == "precious"
    tj.plan_jacobian(stencil, rand(9)).save(path)
    assert [p.name for p in path.parent.iterdir()] == ["plan.npz"]
    assert tj.load_plan(str(path), stencil).num_products == 3


def rewritten(path, **changes):
    with np.load(path) as npz:
        arrays = dict(npz)
    about = json.loads(arrays["about"].tobytes()) | changes
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": 2}, "plan in format 2, written by torchjac .*\n  expected: .*format 1"),
        ({"kind": "gram"}, "holds a gram plan"),
        ({"options": {}}, "not a complete file of a plan"),
        ({"mode": "sideways"}, "not a complete file .*sideways"),
        ({"args": {"tensor": [[9], "torch.float65", "cpu"]}}, "not a complete file .*float65"),
        ({"args": [[9], "torch.float64", "cpu"]}, "not a complete file .*describes no tree"),
        ({"pattern": [[8, 9], "global", []]}, "8 rows do not name sets"),
        ({"args": {"tuple": [{"tensor": [[9], "torch.float64", "cuda:77"]}]}}, "made on cuda:77, which is not here"),
    ],
)
def test_another_version_or_content_is_refused(changes, text, path):
    tj.plan_jacobian(stencil, rand(9)).save(path)
    rewritten(path, **changes)
    with pytest.raises(tj.FileError, match=text):
        tj.load_plan(path, stencil)


@pytest.mark.parametrize("kept", [0, 1, 100, 1000, -1, -100])
def test_a_truncated_file_is_refused(kept, path):
    tj.plan_jacobian(stencil, rand(9)).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(tj.FileError, match=r"not a complete file of a plan(.*\n)*.*plan_jacobian"):
        tj.load_plan(path, stencil)


def test_a_flipped_bit_is_refused(path):
    tj.plan_jacobian(stencil, rand(9)).save(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x93NUMPY") + 130  # in the numbers of the first array
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(tj.FileError, match="CRC"):
        tj.load_plan(path, stencil)


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("was-executed",)


def test_loading_never_unpickles(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tj.plan_jacobian(stencil, rand(9)).save(path)
    with np.load(path) as npz:
        arrays = dict(npz)
    arrays["pattern.row_sets"] = np.array([Dangerous()], dtype=object)
    np.savez(path, **arrays)
    with pytest.raises(tj.FileError, match="allow_pickle"):
        tj.load_plan(path, stencil)
    path.write_bytes(pickle.dumps(Dangerous()))
    with pytest.raises(tj.FileError):
        tj.load_plan(path, stencil)
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(tj.FileError):
        tj.load_plan(path, stencil)
    assert not (tmp_path / "was-executed").exists()


def test_a_function_of_other_arguments_is_refused(path):
    tj.plan_jacobian(stencil, rand(9)).save(path)
    with pytest.raises(tj.SignatureError, match=r"f\(x, y\) cannot be called with 1 argument: missing .* 'y'"):
        tj.load_plan(path, lambda x, y: x)
    with pytest.raises(tj.InputError, match="not a function"):
        tj.load_plan(path, 3)
    assert tj.load_plan(path, torch.sin).shape == (9, 9)  # a builtin does not tell its arguments


def test_a_function_with_another_output_or_pattern_is_refused_on_the_first_call(path):
    tj.plan_jacobian(stencil, rand(9)).save(path)
    with pytest.raises(tj.OutputError, match=r"float64\[8\](.*\n)*  expected: .*float64\[9\]"):
        tj.load_plan(path, lambda x: x[1:])(rand(9))
    with pytest.raises(tj.StalePatternError):
        tj.load_plan(path, lambda x: x.cumsum(0))(rand(9))


Pair = namedtuple("Pair", "a b")


def test_arguments_that_plain_data_cannot_describe_are_refused(path):
    plan = tj.plan_jacobian(lambda p: p.a * p.b, Pair(rand(2), rand(2)))
    with pytest.raises(tj.FileError, match=r"args\[0\] is of type Pair(.*\n)*.*without pickle"):
        plan.save(path)
    plan = tj.plan_jacobian(lambda x, key: x, rand(2), object())
    with pytest.raises(tj.FileError, match=r"args\[1\] is of type object"):
        plan.save(path)
    assert not path.exists()


def test_a_file_that_is_not_there_is_the_usual_error(path):
    with pytest.raises(FileNotFoundError):
        tj.load_plan(path, stencil)


def test_another_process_loads_it(path):
    tj.plan_jacobian(stencil, rand(9)).save(path)
    code = (
        f"import torch, torchjac as tj; print(tj.load_plan({str(path)!r}, lambda x: x * x.roll(1) + x.roll(-1).sin()))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert out.startswith("JacobianPlan(9 x 9, 27 entries, 3 products")


@pytest.mark.parametrize(
    ("mode", "partition"), [("forward", "column"), ("reverse", "row"), ("bidirectional", "bidirectional")]
)
def test_every_coloring_of_a_jacobian_can_be_kept(mode, partition, path):
    plan = tj.plan_jacobian(arrow, rand(20), mode=mode)
    plan.save(path)
    kept = tj.load_plan(path, arrow).coloring
    assert kept.partition == plan.coloring.partition == partition
    assert kept.of_entries(plan.pattern).tolist() == plan.coloring.of_entries(plan.pattern).tolist()


# ---- pickle


def chained(x):
    return (x[1:] * x[:-1] ** 2).sum()


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse", "bidirectional", "accumulate"])
def test_a_plan_is_pickled_with_its_function(mode):
    plan, x = tj.plan_jacobian(stencil, rand(9), mode=mode, layout=torch.sparse_csr), rand(9)
    again = pickle.loads(pickle.dumps(plan))
    assert_close(again(x).to_dense(), dense_jacobian(stencil, (x,)))
    assert (again.mode, again.num_products, again.pattern) == (plan.mode, plan.num_products, plan.pattern)


def test_a_hessian_plan_and_one_of_some_entries_are_pickled():
    x = rand(9)
    for options in ({"uplo": "lower"}, {"entries": "diagonal"}):
        plan = tj.plan_hessian(chained, x, **options)
        assert_close(pickle.loads(pickle.dumps(plan)).values(x), plan.values(x))


def test_patterns_matrices_and_colorings_are_pickled():
    x = rand(9)
    plan = tj.plan_jacobian(stencil, x)
    pattern, matrix, coloring = pickle.loads(pickle.dumps((plan.pattern, plan.matrix(x), plan.coloring)))
    assert pattern == plan.pattern
    assert_close(matrix.to_dense(), plan(x))
    assert coloring.verify(pattern)
    with pytest.raises(tj.PatternError, match="not traced from a function"):
        pattern.why(0, 0)
