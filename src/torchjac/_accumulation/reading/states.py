"""The protocol by which the readings of single ops use the reader."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractContextManager
from typing import Protocol, TypeGuard

import torch

from ..._tangent.call import Call
from ..coefficients.index_map import IndexMap
from ..coefficients.slots import State


class States(Protocol):
    """A reader: the states of tensors, and the maps that were moved before."""

    moved: dict[Hashable, IndexMap]
    """Maps made by moving others: the same move of the same maps is not made again."""

    def state(self, t: torch.Tensor) -> State:
        """Return what t depends on."""

    def depends(self, t: object) -> TypeGuard[torch.Tensor]:
        """Whether t depends on v."""

    def refusal(self, call: Call, why: str) -> Exception:
        """Return the error that ends the reading."""

    def following(self) -> AbstractContextManager[object]:
        """Return a context in which ops are read as part of the program."""


def state_of(out: torch.Tensor) -> State:
    """Return an empty state for ``out``."""
    return State(out.shape, out.dtype, out.device)
