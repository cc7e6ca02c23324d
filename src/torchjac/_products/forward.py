"""JVPs. The tangents are batched, f is not: branches, masks and in-place writes inside f keep working."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .._base.lock import PROCESS_WIDE
from .._base.random_state import RandomState
from .._base.words import Args
from .._function.flat import FlatFunction
from .ravel import to_flat, to_leaves


class Forward:
    """J at ``args``, by forward mode: ``batch(seeds)`` is ``seeds @ J.T``, (k, n) -> (k, m).

    ``random``: whether f may draw random numbers. It runs again for every product, on the same ones.
    """

    def __init__(self, function: FlatFunction, args: Args, random: bool = True) -> None:
        self._function = function
        self._primals: tuple[torch.Tensor, ...]
        self._flat: Callable[..., tuple[torch.Tensor, ...]]
        self._primals, self._flat = (args, function.direct) if function.all_bare else function.opened(args)
        self._draws = RandomState(function.device) if random else None

    def one(self, v: torch.Tensor) -> torch.Tensor:
        """J v, (n,) -> (m,)."""
        with PROCESS_WIDE:
            if self._draws is not None:
                self._draws.replay()
            return self._one(v)

    def _one(self, v: torch.Tensor) -> torch.Tensor:
        inputs, outputs = self._function.inputs, self._function.outputs
        if len(inputs) == len(outputs) == 1 and inputs[0].dtype == outputs[0].dtype:  # nothing to cut or to join
            tangent: torch.Tensor = torch.func.jvp(self._flat, self._primals, (v.reshape(inputs[0].shape),))[1][0]
            return tangent.reshape(-1)
        tangents = torch.func.jvp(self._flat, self._primals, to_leaves(v, inputs))[1]
        return to_flat(tangents, outputs, self._function.dtype)

    def batch(self, seeds: torch.Tensor) -> torch.Tensor:
        """J v for every row v of ``seeds``: (k, n) -> (k, m)."""
        with PROCESS_WIDE:
            if self._draws is not None:
                self._draws.replay()
            out: torch.Tensor = torch.vmap(self._one, randomness="same")(seeds)
        return out
