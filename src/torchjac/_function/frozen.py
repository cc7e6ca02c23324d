"""Values that a captured program holds fixed: plain arguments, and state that f reads beside its arguments.

Numbers that change from call to call can be inputs of a program instead: 0-dimensional tensors in their place.
"""

from __future__ import annotations

import torch
from torch.utils import _pytree as pytree

from .._base.words import Args
from .captured import Captured
from .flat import FlatFunction
from .signature import Choices


class Frozen:
    """The plain arguments and the state that ``function`` was captured with at ``args``."""

    def __init__(self, function: FlatFunction, args: Args) -> None:
        self._function = function
        self._choices = Choices(_plain_leaves(function, args), numbers=True)
        self._captured = Captured(function.source)

    def forget_changed(self) -> None:
        """Look no more at what f itself changes when it runs: it was just run."""
        self._captured.forget_changed()

    def same(self, args: Args) -> bool:
        """Whether a program that was captured then holds at ``args`` now."""
        return self._captured.holds() and (
            self._function.all_bare or self._choices.same(Choices(_plain_leaves(self._function, args), numbers=True))
        )


def floats_as_tensors(function: FlatFunction, args: Args) -> Args:
    """The arguments with a 0-dimensional tensor for each float among those that are not differentiated."""

    def lifted(leaf: object) -> object:
        return torch.tensor(leaf, dtype=torch.float64, device=function.device) if isinstance(leaf, float) else leaf

    return tuple(a if p in function.positions else pytree.tree_map(lifted, a) for p, a in enumerate(args))


def has_floats(function: FlatFunction, args: Args) -> bool:
    """Whether a float is among the arguments that are not differentiated."""
    return not function.all_bare and any(isinstance(leaf, float) for leaf in _plain_leaves(function, args))


def _plain_leaves(function: FlatFunction, args: Args) -> list[object]:
    others = [a for p, a in enumerate(args) if p not in function.positions]
    return pytree.tree_leaves(others)
