"""A journal of the memory that a trace overwrites, from which it is put back afterwards."""

from __future__ import annotations

import torch


class Journal:
    """The old content of memory from before the trace that an op writes to: a module's buffers, a counter, a cache."""

    def __init__(self) -> None:
        self._before: list[tuple[torch.UntypedStorage, torch.UntypedStorage]] = []
        self._saved: set[int] = set()

    def save(self, t: torch.Tensor) -> None:
        """Copy all of t's storage, the first time that it is named."""
        storage = t.untyped_storage()
        if storage._cdata not in self._saved:
            self._saved.add(storage._cdata)
            self._before.append((storage, storage.clone()))

    def restore(self) -> None:
        """Write the old content back."""
        for storage, before in self._before:
            storage.copy_(before, non_blocking=False)
        self._before.clear()
        self._saved.clear()
