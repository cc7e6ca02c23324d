"""Choices in a trace: masks, their positions and indices, and the dimensions along which they choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from .call import Call, base_name
from .numbering import Numbering, is_choice
from .selected import Choice, Key

TAKES = frozenset({"index", "_unsafe_index", "masked_select", "index_select", "gather"})
# What writes to chosen places, and the name of what it writes.
PUTS = {
    "index_put": "values",
    "_index_put_impl": "values",
    "_unsafe_index_put": "values",
    "masked_scatter": "source",
    "index_copy": "source",
    "index_add": "source",
    "scatter": "src",
    "scatter_add": "src",
}
_MASKS = (torch.bool, torch.uint8)


@dataclass(frozen=True)
class Positions:
    """The result of ``nonzero`` for the mask of that number and number of dimensions."""

    mask: int
    dims: int
    stride: tuple[int, ...]
    line: str


@dataclass(frozen=True)
class Chosen:
    """An op takes or writes what ``choice`` says, of the ``span`` dimensions from ``choice.dim`` on."""

    choice: Choice
    span: int

    def places(self, shape: torch.Size) -> tuple[int, ...]:
        """``shape`` with the dimensions that are chosen from as one."""
        at, end = self.choice.dim, self.choice.dim + self.span
        return (*shape[:at], shape[at:end].numel(), *shape[end:])


class Choosers:
    """The masks, indices and positions of a trace."""

    def __init__(self) -> None:
        self.numbering = Numbering()
        self.found_at: WeakKeyDictionary[torch.UntypedStorage, Positions] = WeakKeyDictionary()

    def found(self, out: torch.Tensor, mask: torch.Tensor, line: str) -> None:
        """``out`` are the positions where ``mask`` holds."""
        positions = Positions(self.numbering.number(mask), mask.dim(), out.stride(), line)
        self.found_at[out.untyped_storage()] = positions

    def positions(self, t: torch.Tensor) -> Positions | None:
        """Return the positions that t holds, if it is (a view of) what ``nonzero`` returned."""
        return self.found_at.get(t.untyped_storage()) if self.found_at and is_choice(t) else None

    def chosen(self, call: Call, line: str) -> Chosen | None:
        """By what the call takes or writes, if that is of a kind that is followed."""
        name = base_name(call.op)
        found: tuple[Key, int, int, bool] | None = None
        if call.has("indices"):
            found = self._of_indices(call["indices"])
        elif call.has("mask"):
            x, mask = call["self"], call["mask"]
            if mask.shape == x.shape and x.dim():
                found = ("mask", self.numbering.number(mask)), 0, x.dim(), False
        elif call.has("dim") and call["self"].dim() and call["index"].dim():
            found = self._along(call, grid=name in ("gather", "scatter", "scatter_add"))
        if found is None:
            return None
        key, dim, span, decides = found
        return Chosen(Choice(key, dim, name, line, decides), span)

    def _of_indices(self, indices: Sequence[torch.Tensor | None]) -> tuple[Key, int, int, bool] | None:
        given = [(at, t) for at, t in enumerate(indices) if t is not None]
        at, first = given[0]
        if len(given) == 1 and first.dtype in _MASKS:
            return ("mask", self.numbering.number(first)), at, first.dim(), False
        if [k for k, _ in given] != list(range(at, at + len(given))):
            return None
        return self._of_positions(at, [t for _, t in given])

    def _of_positions(self, at: int, indices: Sequence[torch.Tensor]) -> tuple[Key, int, int, bool] | None:
        """Indices that are all columns of what ``nonzero`` returned stand for its mask; another one for itself."""
        positions = self.positions(indices[0])
        if positions is None:
            single = len(indices) == 1 and indices[0].dim() == 1
            return (("index", self.numbering.number(indices[0])), at, 1, False) if single else None
        columns = [(t.dim(), t.stride(-1), t.storage_offset()) for t in indices if self.positions(t) is positions]
        rows, step = positions.stride
        if columns != [(1, rows, k * step) for k in range(positions.dims)]:
            return None
        return ("mask", positions.mask), at, positions.dims, True

    def _along(self, call: Call, grid: bool) -> tuple[Key, int, int, bool] | None:
        x, index = call["self"], call["index"]
        dim = call["dim"] % x.dim()
        if not grid or x.dim() == 1:
            return self._of_positions(dim, [index])
        if index.dim() != x.dim() or any(a != b for d, (a, b) in enumerate(_sizes(index, x)) if d != dim):
            return None
        return ("grid", self.numbering.number(index)), dim, 1, False


def _sizes(a: torch.Tensor, b: torch.Tensor) -> Any:
    return zip(a.shape, b.shape, strict=True)
