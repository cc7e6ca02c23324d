"""Plans in files: arrays and JSON in an ``.npz``, read without pickle, so that no file can make a program run code.

A plan is mostly its pattern and coloring; of the arguments and the output only trees, shapes, dtypes and devices are
kept. The function itself is not in the file: whoever loads a plan brings it along, and what the file says about it is
compared with what it does.
"""

from __future__ import annotations

import inspect
import json
import os
import zipfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass, fields
from types import NoneType
from typing import Any

import numpy as np
import torch

from .._base.errors import FileError, SignatureError
from .._base.files import replacing
from .._base.version import __version__
from .._base.words import Args, Mode, UserFunction, choose
from .._coloring.colors import AcyclicColors, BidirectionalColors, Coloring, ColumnColors, RowColors, StarColors
from .._function.flat import Argnums
from .._matrices.notes import Note
from .._matrices.pattern import SparsityPattern
from .options import Options, OptionsOfHessian

# Raised by one when a file of the version before would be read wrongly.
FORMAT = 1

_DTYPES = {str(v): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
_LAYOUTS = {str(v): v for v in vars(torch).values() if isinstance(v, torch.layout)}
_PLAIN: dict[str, type[Any]] = {kind.__name__: kind for kind in (int, float, bool, complex, str, NoneType)}
_MAPPINGS: dict[str, type[dict[Any, Any]]] = {"dict": dict, "OrderedDict": OrderedDict}
_SEQUENCES: dict[str, type[Any]] = {"list": list, "tuple": tuple}
_OPTIONS: dict[str, type[Options]] = {"jacobian": Options, "hessian": OptionsOfHessian}
_COLORINGS: dict[str, type[Coloring]] = {
    kind.__name__: kind for kind in (ColumnColors, RowColors, StarColors, AcyclicColors, BidirectionalColors)
}


@dataclass(frozen=True)
class Saved:
    """All of a plan but its function; ``args`` and ``output`` are examples, whose numbers do not matter."""

    args: Args
    output: Any
    argnums: Argnums
    options: Options
    pattern: SparsityPattern
    coloring: Coloring | None
    mode: Mode
    seconds: dict[str, float]

    @property
    def kind(self) -> str:
        """Of what it is the plan."""
        return "hessian" if isinstance(self.options, OptionsOfHessian) else "jacobian"


def write(path: str | os.PathLike[str], saved: Saved) -> None:
    """Write a plan; a file that was there is replaced when the new one is complete, and not before."""
    row_sets, indptr, indices = saved.pattern.index_sets
    arrays = {"pattern.row_sets": row_sets, "pattern.indptr": indptr, "pattern.indices": indices}
    about = {
        "torchjac": __version__,
        "format": FORMAT,
        "kind": saved.kind,
        "args": _describe(saved.args, "args"),
        "output": _describe(saved.output, "f(...)"),
        "argnums": saved.argnums,
        "options": _describe_options(saved.options),
        "pattern": [
            saved.pattern.shape,
            saved.pattern.scope,
            [(n.op, n.reason, n.line, n.nonzeros) for n in saved.pattern.notes],
        ],
        "delicate": sorted(saved.pattern.delicate),
        "coloring": _describe_coloring(saved.coloring, arrays),
        "mode": saved.mode,
        "seconds": saved.seconds,
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read(path: str | os.PathLike[str], f: UserFunction) -> Saved:
    """The plan in a file, to go with ``f``; FileError when it is damaged, foreign, or of another format."""
    arrays = _arrays(path)
    try:
        about = json.loads(arrays["about"].tobytes())
        found = about["format"], about["kind"], about["torchjac"]
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    if found[0] != FORMAT or found[1] not in _OPTIONS:
        raise FileError(
            f"{os.fspath(path)} holds a {found[1]} plan in format {found[0]}, written by torchjac {found[2]}",
            expected=f"a {' or '.join(_OPTIONS)} plan in format {FORMAT}, which torchjac {__version__} writes",
            instead="plan_jacobian(f, *args).save(path), to prepare and save it again",
        )
    try:
        saved = _saved(about, arrays)
    except (KeyError, IndexError, TypeError, ValueError) as error:  # PatternError and OptionError are ValueErrors
        raise _damaged(path, error) from error
    _accepts(f, saved.args, path)
    return saved


def _arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray[Any, Any]]:
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            file.seek(0)
            with np.load(file, allow_pickle=False) as npz:
                return {name.removesuffix(".npy"): npz[name] for name in names}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, NotImplementedError) as error:
        raise _damaged(path, error) from error


def _damaged(path: str | os.PathLike[str], error: Exception) -> FileError:
    return FileError(
        f"{os.fspath(path)} is not a complete file of a plan ({type(error).__name__}: {error})",
        expected="a file that plan.save(path) wrote",
        why="it was cut short or changed since, or something else wrote it",
        instead="plan_jacobian(f, *args).save(path), to prepare and save it again",
    )


def _saved(about: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> Saved:
    (m, n), scope, notes = about["pattern"]
    row_sets, indptr = arrays["pattern.row_sets"], arrays["pattern.indptr"]
    sets = SparsityPattern.from_csr(indptr, arrays["pattern.indices"], (indptr.size - 1, n))  # checks every index
    if row_sets.shape != (m,) or not np.isin(row_sets, np.arange(indptr.size - 1)).all():
        raise ValueError(f"{m} rows do not name sets from 0 to {indptr.size - 2}")
    _, indptr, indices = sets.index_sets
    pattern = SparsityPattern((m, n), row_sets, indptr, indices, scope=scope, notes=[Note(*note) for note in notes])
    pattern.delicate = frozenset(about.get("delicate", ()))
    argnums = about["argnums"]
    choose("mode", about["mode"], Mode)
    return Saved(
        args=_example(about["args"]),
        output=_example(about["output"]),
        argnums=argnums if isinstance(argnums, int) else tuple(argnums),
        options=_options(about["options"], pattern, _OPTIONS[about["kind"]]),
        pattern=pattern,
        coloring=_coloring(about["coloring"], arrays, pattern),
        mode=about["mode"],
        seconds=about["seconds"],
    )


def _accepts(f: UserFunction, args: Args, path: str | os.PathLike[str]) -> None:
    if not callable(f):
        return  # FlatFunction says so better
    try:
        signature = inspect.signature(f)
    except ValueError:  # a builtin that does not tell
        return
    try:
        signature.bind(*args)
    except TypeError as error:
        raise SignatureError(
            f"f{signature} cannot be called with {len(args)} argument{'s' * (len(args) != 1)}: {error}",
            expected=f"a function like the one that the plan in {os.fspath(path)} was made for",
            instead="load_plan(path, f) with that function",
        ) from error


# ---- trees


def _describe(tree: Any, path: str) -> Any:
    """A tree as JSON: shape, dtype and device of a tensor, the type of anything else."""
    kind = type(tree).__name__
    if isinstance(tree, torch.Tensor):
        return {"tensor": [list(tree.shape), str(tree.dtype), str(tree.device)]}
    if type(tree) in _PLAIN.values():
        return {"plain": kind}
    if type(tree) in _SEQUENCES.values():
        return {kind: [_describe(leaf, f"{path}[{i}]") for i, leaf in enumerate(tree)]}
    if type(tree) in _MAPPINGS.values() and all(isinstance(key, (str, int)) for key in tree):
        return {kind: [[key, _describe(leaf, f"{path}[{key!r}]")] for key, leaf in tree.items()]}
    raise FileError(
        f"{path} is of type {(tree if isinstance(tree, type) else type(tree)).__name__}",
        expected="tensors, numbers, strings and None, in dicts with string keys, lists and tuples",
        why="a plan is saved without pickle, and a file of plain data cannot hold other types",
        instead="plan_jacobian(lambda x: f(x, other), x), which keeps the other argument out of the signature",
    )


def _example(description: dict[str, Any]) -> Any:
    """A tree like the described one; its tensors are views of one number each."""
    ((kind, inside),) = description.items()
    if kind == "tensor":
        shape, dtype, device = inside
        return _somewhere(_DTYPES[dtype], device).expand(shape)
    if kind == "plain":
        return _PLAIN[inside]()
    if kind in _SEQUENCES:
        return _SEQUENCES[kind](map(_example, inside))
    return _MAPPINGS[kind]((key, _example(leaf)) for key, leaf in inside)


def _somewhere(dtype: torch.dtype, device: str) -> torch.Tensor:
    try:
        return torch.empty((), dtype=dtype, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise FileError(
            f"the plan was made on {device}, which is not here ({str(error).splitlines()[0]})",
            expected=f"a machine with {device}",
            why="seeds and index tensors live on the device of the arguments",
            instead="plan_jacobian(f, *args) again with arguments on a device that is here",
        ) from error


# ---- options and colorings


def _describe_options(options: Options) -> dict[str, Any]:
    out = {field.name: getattr(options, field.name) for field in fields(options)}
    out["layout"] = str(options.layout)
    if not (options.sparsity is None or isinstance(options.sparsity, str)):
        out["sparsity"] = "given"  # it is the plan's pattern, which the file holds
    return out


def _options(described: dict[str, Any], pattern: SparsityPattern, kind: type[Options]) -> Options:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in described.items()}
    given["layout"] = _LAYOUTS[described["layout"]]
    if given["sparsity"] == "given":
        given["sparsity"] = pattern
    return kind.parse(given)


def _describe_coloring(coloring: Coloring | None, arrays: dict[str, Any]) -> Any:
    if coloring is None:
        return None
    out: dict[str, Any] = {}
    for field in fields(coloring):
        value = getattr(coloring, field.name)
        if isinstance(value, np.ndarray):
            arrays[f"coloring.{field.name}"] = value
        else:
            out[field.name] = int(value) if isinstance(value, np.integer) else value
    return [type(coloring).__name__, out]


def _coloring(described: Any, arrays: dict[str, Any], pattern: SparsityPattern) -> Coloring | None:
    if described is None:
        return None
    name, plain = described
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
    given |= {key.removeprefix("coloring."): a for key, a in arrays.items() if key.startswith("coloring.")}
    coloring = _COLORINGS[name](**given)
    coloring.verify(pattern)  # O(nnz): a plan must not read entries where the products do not have them
    return coloring
