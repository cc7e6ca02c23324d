"""A cache of plans for functions that are called many times without a plan; it keeps a plan as long as f lives.

The cache tells functions apart by identity. A plan refers to f weakly, so the cache does not keep f alive. The key
includes the mode of the modules that f is seen to use: in training, a BatchNorm computes another function.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from torch.utils._pytree import PyTree

from .._base.words import Args, UserFunction

_PLANS_PER_FUNCTION = 8
Plan = TypeVar("Plan")


class PlanCache(Generic[Plan]):
    """The newest plans of many functions, a few for each."""

    def __init__(self) -> None:
        self._plans: dict[int, list[tuple[Args, Plan]]] = {}

    def of(
        self,
        f: UserFunction,
        key: Args,
        fits: Callable[[Plan], bool],
        make: Callable[[UserFunction], Plan],
    ) -> Plan:
        """Return the plan that was made for f and ``key`` and ``fits``, or a new one by ``make``.

        ``make`` gets a function that calls f and does not keep it alive.
        """
        owner = f.__self__ if isinstance(f, types.MethodType) else f
        try:
            weak = _WeakFunction(f)
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
        del plans[:-_PLANS_PER_FUNCTION]
        return plan


class _WeakFunction:
    """A function that calls f and does not keep it alive."""

    def __init__(self, f: UserFunction) -> None:
        self._f = weakref.WeakMethod(f) if isinstance(f, types.MethodType) else weakref.ref(f)

    def function(self) -> UserFunction:
        """Return f itself, which must still live."""
        f = self._f()
        assert f is not None, "the caller of a plan of f holds f"
        return f

    def __call__(self, *args: PyTree) -> PyTree:
        return self.function()(*args)


def modules_of(f: object) -> Iterator[torch.nn.Module]:
    """Yield the modules that f is, is bound to, closes over, or calls by a global name, and the modules inside them."""
    for value in _reached(f):
        if isinstance(value, torch.nn.Module):
            yield from value.modules()


def _reached(f: object) -> Iterator[object]:
    """Yield f and the objects that f is bound to, closes over, or calls by a global name."""
    yield f
    if isinstance(f, _WeakFunction):
        yield from _reached(f.function())
    elif isinstance(f, functools.partial):
        yield from (*_reached(f.func), *f.args, *f.keywords.values())
    elif isinstance(f, types.MethodType):
        yield f.__self__
        f = f.__func__
    if isinstance(f, types.FunctionType):
        cells = f.__closure__ or ()
        yield from (cell.cell_contents for cell in cells if cell != types.CellType())
        yield from (f.__globals__[name] for name in f.__code__.co_names if name in f.__globals__)
