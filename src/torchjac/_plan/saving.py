"""The files of plans: arrays and JSON in an ``.npz``, read without pickle, so that no file can run code.

A file holds the pattern and the coloring of a plan. Of the arguments and the output it holds only the trees, shapes,
dtypes and devices. It does not hold the function: the caller gives it again when a plan is loaded, and its arguments
and output are compared with those in the file.
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
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch.utils._pytree import PyTree

from .._base.errors import FileError, SignatureError
from .._base.files import replacing
from .._base.version import __version__
from .._base.words import Args, Mode, Scope, UserFunction, choose
from .._coloring.colors import AcyclicColors, BidirectionalColors, Coloring, ColumnColors, RowColors, StarColors
from .._function.flat import Argnums
from .._matrices.notes import Note
from .._matrices.pattern import SparsityPattern
from .._matrices.row_sets import IntArray
from .options import Given, Options, OptionsOfHessian

FORMAT = 1
"""The number of the file format; it grows when an older file would be read wrongly."""

_DTYPES = {str(v): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
_LAYOUTS = {str(v): v for v in vars(torch).values() if isinstance(v, torch.layout)}
_PLAIN: dict[str, type[object]] = {kind.__name__: kind for kind in (int, float, bool, complex, str, NoneType)}
_MAPPINGS: dict[str, type[dict[str | int, PyTree]]] = {"dict": dict, "OrderedDict": OrderedDict}
_SEQUENCES: dict[str, type[list[PyTree]] | type[tuple[PyTree, ...]]] = {"list": list, "tuple": tuple}
_OPTIONS: dict[str, type[Options]] = {"jacobian": Options, "hessian": OptionsOfHessian}
_COLORINGS: dict[str, type[Coloring]] = {
    kind.__name__: kind for kind in (ColumnColors, RowColors, StarColors, AcyclicColors, BidirectionalColors)
}

_Arrays = dict[str, IntArray]
"""The arrays of a file by their names; the JSON is among them, as bytes."""

_Description = dict[str, object]
"""A tree as JSON, in one item: the type of the tree, and its parts."""

_Fields = dict[str, Any]
"""The fields of a dataclass by their names, for its constructor."""

_SavedColoring = tuple[str, _Fields]
"""The name of a class of colorings, and its fields that are not arrays."""


class _About(TypedDict):
    """The JSON of a file; it holds the tuples as lists."""

    torchjac: str
    format: int
    kind: str
    args: _Description
    output: _Description
    argnums: Argnums
    options: Given
    pattern: tuple[tuple[int, int], Scope, list[tuple[str, str, str, int]]]
    delicate: NotRequired[list[str]]
    coloring: _SavedColoring | None
    mode: Mode
    seconds: dict[str, float]


@dataclass(frozen=True)
class Saved:
    """A plan without its function; ``args`` and ``output`` are examples, whose numbers do not matter."""

    args: Args
    output: PyTree
    argnums: Argnums
    options: Options
    pattern: SparsityPattern
    coloring: Coloring | None
    mode: Mode
    seconds: dict[str, float]

    @property
    def kind(self) -> str:
        """The kind of the plan, "jacobian" or "hessian"."""
        return "hessian" if isinstance(self.options, OptionsOfHessian) else "jacobian"


def write(path: str | os.PathLike[str], saved: Saved) -> None:
    """Write a plan to a file; an older file is replaced only when the new one is complete."""
    row_sets, indptr, indices = saved.pattern.index_sets
    arrays: _Arrays = {"pattern.row_sets": row_sets, "pattern.indptr": indptr, "pattern.indices": indices}
    about: _About = {
        "torchjac": __version__,
        "format": FORMAT,
        "kind": saved.kind,
        "args": _describe(saved.args, "args"),
        "output": _describe(saved.output, "f(...)"),
        "argnums": saved.argnums,
        "options": _describe_options(saved.options),
        "pattern": (
            saved.pattern.shape,
            saved.pattern.scope,
            [(n.op, n.reason, n.line, n.nonzeros) for n in saved.pattern.notes],
        ),
        "delicate": sorted(saved.pattern.delicate),
        "coloring": _describe_coloring(saved.coloring, arrays),
        "mode": saved.mode,
        "seconds": saved.seconds,
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read(path: str | os.PathLike[str], f: UserFunction) -> Saved:
    """Read the plan of ``f`` from a file; FileError when the file is damaged, foreign, or of another format."""
    arrays = _arrays(path)
    try:
        about: _About = json.loads(arrays["about"].tobytes())
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


def _arrays(path: str | os.PathLike[str]) -> _Arrays:
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


def _saved(about: _About, arrays: _Arrays) -> Saved:
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
        return  # the error of FlatFunction says more
    try:
        signature = inspect.signature(f)
    except ValueError:  # a builtin without a signature
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


def _describe(tree: PyTree, path: str) -> _Description:
    """Return a tree as JSON: shape, dtype and device of a tensor, the type of anything else."""
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


def _example(description: object) -> PyTree:
    """Return a tree like the described one; its tensors are views of one number each."""
    items = list(description.items()) if isinstance(description, dict) else []
    match items:
        case [("tensor", [list(shape), str(dtype), str(device)])]:
            return _number(_DTYPES[dtype], device).expand(shape)
        case [("plain", str(kind))]:
            return _PLAIN[kind]()
        case [(kind, list(inside))] if kind in _SEQUENCES:
            return _SEQUENCES[kind](map(_example, inside))
        case [(kind, list(inside))] if kind in _MAPPINGS:
            return _MAPPINGS[kind]((key, _example(leaf)) for key, leaf in inside)
    raise ValueError(f"{description!r:.100} describes no tree")


def _number(dtype: torch.dtype, device: str) -> torch.Tensor:
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


def _describe_options(options: Options) -> Given:
    out = {field.name: getattr(options, field.name) for field in fields(options)}
    out["layout"] = str(options.layout)
    if not (options.sparsity is None or isinstance(options.sparsity, str)):
        out["sparsity"] = "given"  # the pattern of the plan, which is in the file
    return out


def _options(described: Given, pattern: SparsityPattern, kind: type[Options]) -> Options:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in described.items()}
    given["layout"] = _LAYOUTS[described["layout"]]
    if given["sparsity"] == "given":
        given["sparsity"] = pattern
    return kind.parse(given)


def _describe_coloring(coloring: Coloring | None, arrays: _Arrays) -> _SavedColoring | None:
    if coloring is None:
        return None
    out: _Fields = {}
    for field in fields(coloring):
        value = getattr(coloring, field.name)
        if isinstance(value, np.ndarray):
            arrays[f"coloring.{field.name}"] = value
        else:
            out[field.name] = int(value) if isinstance(value, np.integer) else value
    return type(coloring).__name__, out


def _coloring(described: _SavedColoring | None, arrays: _Arrays, pattern: SparsityPattern) -> Coloring | None:
    if described is None:
        return None
    name, plain = described
    given: _Fields = {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}
    given |= {key.removeprefix("coloring."): a for key, a in arrays.items() if key.startswith("coloring.")}
    coloring = _COLORINGS[name](**given)
    coloring.verify(pattern)  # O(nnz): a plan must not read entries where the products do not have them
    return coloring
