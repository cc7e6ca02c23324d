"""One run of f that serves all that is wanted there: what it returns, its products, and the check of them."""

from __future__ import annotations

import operator

import torch

from .._base.random_state import RandomState
from .._base.words import Args
from .._function.flat import FlatFunction
from .reverse import Reverse


class Run:
    """f as it ran at ``args``, linearized by plain autograd; ``before``: the random numbers that it began with."""

    def __init__(self, function: FlatFunction, args: Args, before: RandomState) -> None:
        self.function, self.args, self._f, self.before = function, args, function.f, before
        self.reverse = Reverse(function, args, plain=True)
        self._after = RandomState(function.device)

    @classmethod
    def first(cls, function: FlatFunction, args: Args) -> Run | None:
        """The run; None where there is no plain autograd, or f raises: whoever runs f next will say so."""
        if inside_transform():
            return None
        before = RandomState(function.device)
        try:
            return cls(function, args, before)
        except RuntimeError:
            before.replay()
            return None

    def again(self, args: Args) -> Reverse | None:
        """What running f at ``args`` would give, if this was that: the same f at the very same arguments."""
        if self._f is not self.function.f or not all(map(operator.is_, self.args, args)):
            return None
        self._after.replay()
        return self.reverse


def inside_transform() -> bool:
    """Whether ``torch.func`` or ``torch.vmap`` is at work around this."""
    return torch._C._functorch.peek_interpreter_stack() is not None
