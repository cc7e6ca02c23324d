"""Random numbers: those that f draws, replayed for every product of one Jacobian, and those of our own checks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class RandomState:
    """The state of PyTorch's generators now, so that a function can be run again on the same random numbers."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def replay(self) -> None:
        """Set the generators back to where they stood."""
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)

    @property
    def states(self) -> list[torch.Tensor]:
        """The states of the generators, as bytes."""
        return [self._cpu] if self._cuda is None else [self._cpu, self._cuda]

    @states.setter
    def states(self, states: list[torch.Tensor]) -> None:
        self._cpu, self._cuda = states[0], states[1] if len(states) > 1 else None

    def moved(self) -> bool:
        """Whether somebody drew random numbers since."""
        now = RandomState(self._device).states
        return any(not torch.equal(before, after) for before, after in zip(self.states, now, strict=True))

    @contextmanager
    def again(self) -> Iterator[None]:
        """Replay inside the block; afterwards the generators stand where they stood before it."""
        after = RandomState(self._device)
        self.replay()
        try:
            yield
        finally:
            after.replay()


def random_numbers(size: int, like: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Normal numbers from a generator of our own, so that the caller's random state stays as it is."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64).to(like.device, like.dtype)
