"""Selected tensors: what a mask or an index computed from x takes is kept as if all of it had been taken.

Which elements ``x[mask]`` has is decided by x. But whichever they are, each of them is an element of x, and where
pointwise ops and products along other dimensions lead, it stays one: element k stands for place p(k). So beside a
selected tensor lie the ids that *every* place would have (``Rows``). Written back by the same mask, each place gets its
own. Any other use of the tensor sees, in each element, all that could have been chosen.

Before/after, ids of x [1, 2, 3], mask of two: t = x[mask] has rows [1, 2, 3]; t * t too; y[mask] = t gives y [1, 2, 3].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .numbering import Number
from .relations import Ids

Key = tuple[str, Number]


@dataclass(frozen=True)
class Choice:
    """A selection: ``key`` says by what, ``dim`` along which dimension of the result, ``line`` where it was made.

    ``decides``: it is made of positions (``nonzero``), which f may read.
    """

    key: Key
    dim: int
    op: str
    line: str
    decides: bool = False


@dataclass
class Rows:
    """A selected tensor: of ``shape``, in which dimension ``choice.dim`` holds what was chosen of all in ``ids``."""

    choice: Choice
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    ids: Ids

    @classmethod
    def of(cls, t: torch.Tensor, choice: Choice, ids: Ids) -> Rows:
        """T, chosen by ``choice`` from places with these ids."""
        return cls(choice, t.shape, t.stride(), int(t.storage_offset()), t.dtype, ids)

    def __post_init__(self) -> None:
        self.ids = self.ids.clone(memory_format=torch.contiguous_format)  # the shadow's own may change
        self.said = False

    def seen_as(self, t: torch.Tensor) -> Ids | None:
        """The ids of all places of t, a view of this tensor that keeps what was chosen in dimension ``choice.dim``."""
        if self.is_all(t):
            return self.ids
        return self._in_rows(t)

    def is_all(self, t: torch.Tensor) -> bool:
        """Whether t, of this storage, is all of this tensor."""
        same = t.shape == self.shape and t.stride() == self.stride and t.storage_offset() == self.offset
        return same and t.dtype is self.dtype

    def whole(self, t: torch.Tensor) -> torch.Tensor:
        """All of this tensor, from any tensor of its storage."""
        empty = torch.empty(0, dtype=self.dtype, device=t.device)
        return empty.set_(t.untyped_storage(), self.offset, self.shape, self.stride)

    def _in_rows(self, t: torch.Tensor) -> Ids | None:
        """Return the selection for a part of every row."""
        if self.choice.dim != 0 or self.offset != 0 or t.dtype is not self.dtype:
            return None
        if t.dim() == 0 or t.shape[0] < 2 or t.shape[0] != self.shape[0]:
            return None
        width = self.shape[1:].numel()
        inside = t.storage_offset() + sum((s - 1) * step for s, step in zip(t.shape[1:], t.stride()[1:], strict=True))
        if not self._is_contiguous() or t.stride(0) != width or inside >= width:
            return None
        shape, stride = (self.ids.shape[0], *t.shape[1:]), (width, *t.stride()[1:])
        return torch.as_strided(self.ids, shape, stride, t.storage_offset())

    def _is_contiguous(self) -> bool:
        return self.stride == torch.empty(self.shape, device="meta").stride()
