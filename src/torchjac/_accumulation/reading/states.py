"""What the kinds of op ask the reader for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from ..._tangent.call import Call
from ..coefficients.index_map import IndexMap
from ..coefficients.slots import State


class States(Protocol):
    """What tensors depend on."""

    moved: dict[Any, IndexMap]
    """Maps that a move made of others: the same move of the same maps is not made again."""

    def state(self, t: torch.Tensor) -> State:
        """What t depends on."""

    def depends(self, t: Any) -> bool:
        """Whether t depends on v."""

    def refusal(self, call: Call, why: str) -> Exception:
        """The error that ends the reading."""

    def following(self) -> AbstractContextManager[Any]:
        """Inside, ops are followed as those of the program are."""


def state_of(out: torch.Tensor) -> State:
    """An empty one for ``out``."""
    return State(out.shape, out.dtype, out.device)
