"""State that a function reads beside its arguments: globals, closures, attributes, and the parameters of modules.

A program that was captured from f holds what f read then. Before it runs again, the state is compared with what it was:
tensors and objects by identity, because a write in place is seen by the program too; numbers and strings by value.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

_MOST = 20_000  # entries that are looked at
_SMALL = 4_096  # numbers of an array that is compared by value
_MISSING = object()
_FOREIGN = frozenset({"torch", "numpy", "scipy", "torchjac", "builtins", "math", "functools", "itertools", "operator"})
_PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device, np.generic)


class _Place(Protocol):
    """A place that a value was read from, by its key."""

    def __getitem__(self, key: Any, /) -> object: ...


class Captured:
    """The state that ``f`` can be seen to read, as it is now; ``holds()`` says whether it still is."""

    def __init__(self, f: object) -> None:
        walk = _Walk()
        walk.function(f)
        self._identical, self._equal, self._arrays = walk.identical, walk.equal, walk.arrays

    @property
    def empty(self) -> bool:
        """Whether f reads nothing beside its arguments."""
        return not (self._identical or self._equal or self._arrays)

    def forget_changed(self) -> None:
        """Look no more at what has changed since: f itself changes it when it runs."""
        self._identical = [(p, k, v) for p, k, v in self._identical if _read(p, k) is v]
        self._equal = [(p, k, v) for p, k, v in self._equal if _equal(_read(p, k), v)]
        self._arrays = [(p, k, v) for p, k, v in self._arrays if _same_array(_read(p, k), v)]

    def holds(self) -> bool:
        """Whether everything is still the same."""
        try:
            return (
                all(place[key] is value for place, key, value in self._identical)
                and all(_equal(place[key], value) for place, key, value in self._equal)
                and all(_same_array(place[key], value) for place, key, value in self._arrays)
            )
        except (LookupError, ValueError):  # it is gone, or a cell is empty
            return False


class _Walk:
    """A walk over what a function can reach, in which each object is met once."""

    def __init__(self) -> None:
        self.identical: list[tuple[_Place, object, object]] = []
        self.equal: list[tuple[_Place, object, object]] = []
        self.arrays: list[tuple[_Place, object, npt.NDArray[np.generic]]] = []
        self._seen: set[int] = set()
        self._names: set[str] = set()

    def function(self, f: object) -> None:
        """Look at whatever can be called."""
        if id(f) in self._seen:
            return
        self._seen.add(id(f))
        if isinstance(f, functools.partial):
            self.function(f.func)
            self._items(f.args, range(len(f.args)))
            self._items(f.keywords, f.keywords)
        elif isinstance(f, types.MethodType):
            self.function(f.__func__)
            self._object(f.__self__)
        elif isinstance(f, types.FunctionType):
            self._plain_function(f)
        else:
            self._object(f)
            call = type(f).forward if isinstance(f, torch.nn.Module) else vars(type(f)).get("__call__")
            if isinstance(call, types.FunctionType) and _is_users(call):
                self._plain_function(call)

    def _plain_function(self, f: types.FunctionType) -> None:
        names = set(_names(f.__code__))
        self._names |= names
        self._items(f.__globals__, [name for name in names if name in f.__globals__])
        for cell in f.__closure__ or ():
            self._items(_Cell(cell), [0])
        self._items(f.__defaults__ or (), range(len(f.__defaults__ or ())))
        self._items(f.__kwdefaults__ or {}, f.__kwdefaults__ or {})

    def _object(self, value: object) -> None:
        """Look at the attributes of an object whose methods may read them."""
        if isinstance(value, torch.nn.Module):
            self._module(value)
            return
        for kind in type(value).__mro__:
            for method in vars(kind).values():
                if isinstance(method, types.FunctionType) and _is_users(method):
                    self._names |= set(_names(method.__code__))
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            self._items(attributes, list(attributes))

    def _module(self, module: torch.nn.Module) -> None:
        for held in (module._parameters, module._buffers, module._modules):
            self._items(held, list(held))
        plain = [name for name in vars(module) if not name.startswith("_")]
        self._items(vars(module), plain)
        forward = type(module).forward
        if isinstance(forward, types.FunctionType) and _is_users(forward) and id(forward) not in self._seen:
            self._seen.add(id(forward))
            self._plain_function(forward)

    def _items(self, place: _Place, keys: Iterable[object]) -> None:
        for key in keys:
            try:
                value = place[key]
            except (LookupError, ValueError):  # an empty cell
                continue
            if len(self.identical) + len(self.equal) < _MOST:
                self._value(place, key, value)

    def _value(self, place: _Place, key: object, value: object) -> None:
        if isinstance(value, _PLAIN):
            self.equal.append((place, key, value))
            return
        if isinstance(value, np.ndarray) and value.size <= _SMALL:
            self.arrays.append((place, key, value.copy()))
            return
        if isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] in _FOREIGN:
            return
        self.identical.append((place, key, value))
        if id(value) in self._seen:
            return
        if isinstance(value, (types.FunctionType, types.MethodType, functools.partial)):
            if _is_users(value):
                self.function(value)
            return
        self._seen.add(id(value))
        if isinstance(value, (list, tuple)):
            self._items(value, range(len(value)))
        elif isinstance(value, dict):
            self._items(value, list(value))
        elif isinstance(value, types.ModuleType):
            self._items(vars(value), [name for name in self._names if name in vars(value)])
        elif not isinstance(value, (torch.Tensor, type)) and type(value).__module__.partition(".")[0] != "builtins":
            self._object(value)


class _Cell:
    """A cell of a closure, read like a sequence of one."""

    def __init__(self, cell: types.CellType) -> None:
        self._cell = cell

    def __getitem__(self, key: object) -> object:
        return self._cell.cell_contents


def _names(code: types.CodeType) -> Iterator[str]:
    """The names that code reads, that of functions defined inside of it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_users(f: object) -> bool:
    module = getattr(f, "__module__", None) or ""
    return str(module).partition(".")[0] not in _FOREIGN


def _read(place: _Place, key: object) -> object:
    try:
        return place[key]
    except (LookupError, ValueError):
        return _MISSING


def _equal(now: object, before: object) -> bool:
    return now is before or (type(now) is type(before) and bool(now == before))


def _same_array(now: object, before: npt.NDArray[np.generic]) -> bool:
    return isinstance(now, np.ndarray) and now.dtype == before.dtype and np.array_equal(now, before)
