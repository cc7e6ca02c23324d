"""JVPs: the tangents are batched and f is not, so that branches, masks and in-place writes inside f keep working."""

from __future__ import annotations

import torch

from .._base.lock import PROCESS_WIDE
from .._base.random_state import Draws
from .._base.words import Args
from .._function.flat import FlatFunction
from .ravel import to_flat, to_leaves


class Forward:
    """The products with J at ``args`` by forward mode: ``batch(seeds)`` is ``seeds @ J.T``, (k, n) -> (k, m)."""

    def __init__(self, function: FlatFunction, args: Args) -> None:
        self._function = function
        self._flat = function.bind(args)
        self._primals = tuple(function.leaves(args))
        self._draws = Draws(function.device)  # f runs again for every product, on the same random numbers

    def one(self, v: torch.Tensor) -> torch.Tensor:
        """Return J v, (n,) -> (m,)."""
        with PROCESS_WIDE:
            self._draws.replay()
            return self._one(v)

    def _one(self, v: torch.Tensor) -> torch.Tensor:
        function = self._function
        tangents = torch.func.jvp(self._flat, self._primals, to_leaves(v, function.inputs))[1]
        return to_flat(tangents, function.outputs, function.dtype)

    def batch(self, seeds: torch.Tensor) -> torch.Tensor:
        """Return J v for every row v of ``seeds``: (k, n) -> (k, m)."""
        with PROCESS_WIDE:
            self._draws.replay()
            out: torch.Tensor = torch.vmap(self._one, randomness="same")(seeds)
        return out
