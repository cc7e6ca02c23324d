"""Kernels: loops in plain Python, run as they are on small inputs and compiled by Numba on large ones.

Importing Numba takes longer (0.6 s) than coloring a small pattern in plain Python, so nothing here imports it until a
kernel meets an input that is worth it. A kernel is a module-level function of arrays and numbers; it may call other
functions marked ``inlined``. Compiled kernels are cached on disk by Numba.

    @kernel                      # an entry: chooses plain or compiled by the work ahead
    def _count(ptr): ...

    @inlined                     # a helper: plain inside a plain kernel, compiled inside a compiled one
    def _push(head, v): ...

    _count.given(work)(ptr)

Index arrays come in unsigned: Numba guards a signed index against being negative, which halves the speed of a gather.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cached_property
from types import FunctionType
from typing import Generic, ParamSpec, TypeVar

COLD, WARM, HOT = 100_000, 10_000, 300
"""Steps up to which plain Python is faster: before Numba is imported, before the kernel is loaded, and after."""

P = ParamSpec("P")
R = TypeVar("R")


class inlined(Generic[P, R]):
    """A function that kernels call, compiled inside a compiled kernel."""

    def __init__(self, function: Callable[P, R]) -> None:
        self.plain = function
        self.__doc__, self.__name__ = function.__doc__, function.__name__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.plain(*args, **kwargs)

    @cached_property
    def compiled(self) -> Callable[P, R]:
        """The function with the helpers it names compiled too."""
        import numba

        function = self.plain
        assert isinstance(function, FunctionType)
        helpers = {name: function.__globals__.get(name) for name in function.__code__.co_names}
        namespace = function.__globals__ | {k: h.compiled for k, h in helpers.items() if isinstance(h, inlined)}
        copy = FunctionType(function.__code__, namespace, function.__name__, function.__defaults__)
        copy.__module__, copy.__qualname__ = function.__module__, function.__qualname__
        compiled: Callable[P, R] = numba.njit(cache=True, nogil=True)(copy)
        return compiled


class kernel(inlined[P, R]):
    """A function that Python calls, compiled as soon as its work is worth the time to compile."""

    done = 0

    def given(self, work: int) -> Callable[P, R]:
        """The faster of the plain and the compiled function for about ``work`` steps of its innermost loop."""
        if "compiled" in self.__dict__:
            return self.plain if work <= HOT else self.compiled
        self.done += work  # many small inputs are a large one
        return self.plain if self.done <= (WARM if "numba" in sys.modules else COLD) else self.compiled
