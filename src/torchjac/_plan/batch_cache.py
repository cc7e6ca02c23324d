"""Plans of functions that are called again and again without a plan: kept beside f, for as long as f lives.

f is told by identity. A plan refers to it weakly, so that remembering does not keep it alive. Modules that f can be
seen to use are looked at: in another mode, a BatchNorm is another function.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import torch

from .._base.words import Args, UserFunction

_MOST = 8  # plans for one f
Plan = TypeVar("Plan")


class Remembered(Generic[Plan]):
    """``of(f, key, fits, make)``: the plan made for f and ``key`` that ``fits``, else ``make(f)``."""

    def __init__(self) -> None:
        self._plans: dict[int, list[tuple[Any, Plan]]] = {}

    def of(
        self,
        f: UserFunction,
        key: Args,
        fits: Callable[[Plan], bool],
        make: Callable[[UserFunction], Plan],
    ) -> Plan:
        """The plan; ``make`` gets a function that calls f and does not keep it alive."""
        owner = f.__self__ if isinstance(f, types.MethodType) else f
        try:
            weak = _Weak(f)
            if id(owner) not in self._plans:
                weakref.finalize(owner, self._plans.pop, id(owner), None)
        except TypeError:  # an object that cannot be referred to weakly
            return make(f)
        plans = self._plans.setdefault(id(owner), [])
        key = (getattr(f, "__func__", None), *key, *(module.training for module in modules_of(f)))
        for known, plan in plans:
            if known == key and fits(plan):
                return plan
        plan = make(weak)
        plans.append((key, plan))
        del plans[:-_MOST]
        return plan


class _Weak:
    def __init__(self, f: UserFunction) -> None:
        self._f = weakref.WeakMethod(f) if isinstance(f, types.MethodType) else weakref.ref(f)

    def behind(self) -> Any:
        f = self._f()
        assert f is not None, "who asks for the plan of f holds f"
        return f

    def __call__(self, *args: Any) -> Any:
        return self.behind()(*args)


def modules_of(f: Any) -> Iterator[torch.nn.Module]:
    """The modules that f is, is bound to, closes over, or calls by a global name, with all that are in them."""
    for value in _reached(f):
        if isinstance(value, torch.nn.Module):
            yield from value.modules()


def _reached(f: Any) -> Iterator[Any]:
    yield f
    if isinstance(f, _Weak):
        yield from _reached(f.behind())
    elif isinstance(f, functools.partial):
        yield from (*_reached(f.func), *f.args, *f.keywords.values())
    elif isinstance(f, types.MethodType):
        yield f.__self__
        f = f.__func__
    if isinstance(f, types.FunctionType):
        cells = f.__closure__ or ()
        yield from (cell.cell_contents for cell in cells if cell != types.CellType())
        yield from (f.__globals__[name] for name in f.__code__.co_names if name in f.__globals__)
