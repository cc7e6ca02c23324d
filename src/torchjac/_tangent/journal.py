"""A journal of what a trace writes to: afterwards nothing of the caller's is changed."""

from __future__ import annotations

import torch


class Journal:
    """What memory from before the trace held, before an op wrote to it: a module's buffers, a counter, a cache."""

    def __init__(self) -> None:
        self._before: list[tuple[torch.UntypedStorage, torch.UntypedStorage]] = []
        self._saved: set[int] = set()

    def save(self, t: torch.Tensor) -> None:
        """Keep a copy of all of t's storage, once."""
        storage = t.untyped_storage()
        if storage._cdata not in self._saved:
            self._saved.add(storage._cdata)
            self._before.append((storage, storage.clone()))

    def restore(self) -> None:
        """Put everything back."""
        for storage, before in self._before:
            storage.copy_(before, non_blocking=False)
        self._before.clear()
        self._saved.clear()
