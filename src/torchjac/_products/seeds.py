"""Seeds: the 0/1 vectors that select the members of a color, made a chunk of colors at a time.

No object is ever wider than the products that run at once.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from .._base.words import Colors


class Seeds:
    """The seeds of one vector of colors, on a device, a chunk at a time.

    ``Seeds(colors, like=x).chunk(0, 4)`` is a (4, n) tensor of x's dtype and device.
    """

    def __init__(self, colors: Colors, dtype: torch.dtype, device: torch.device) -> None:
        self.colors, self.dtype, self.device = colors, dtype, device

    @cached_property
    def on_device(self) -> torch.Tensor:
        return torch.from_numpy(self.colors).to(self.device)

    def chunk(self, start: int, stop: int) -> torch.Tensor:
        """Seeds of the colors from ``start`` up to ``stop``: (stop - start, n)."""
        wanted = torch.arange(start, stop, dtype=torch.int32, device=self.device)
        return (self.on_device == wanted[:, None]).to(self.dtype)


class KeptSeeds(Seeds):
    """Seeds that are made once: where products are small, making them would be a good part of the work.

    ``all``: (count, n). ``version``: how often it had been written to when it was right.
    """

    def __init__(self, seeds: Seeds, count: int) -> None:
        super().__init__(seeds.colors, seeds.dtype, seeds.device)
        dense = np.array_equal(seeds.colors, np.arange(count))  # the identity, which is made ten times as fast
        self.all = torch.eye(count, dtype=self.dtype, device=self.device) if dense else super().chunk(0, count)
        self.version = self.all._version

    def chunk(self, start: int, stop: int) -> torch.Tensor:
        if self.all._version != self.version:  # a backward that writes into what it is given
            return super().chunk(start, stop)
        return self.all if stop - start == len(self.all) else self.all[start:stop]


class WeightedSeeds(Seeds):
    """Seeds with numbers in place of the ones."""

    def __init__(self, seeds: Seeds, weights: torch.Tensor) -> None:
        super().__init__(seeds.colors, seeds.dtype, seeds.device)
        self._plain, self._weights = seeds, weights

    def chunk(self, start: int, stop: int) -> torch.Tensor:
        return self._plain.chunk(start, stop) * self._weights
