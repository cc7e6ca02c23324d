"""The values of a symmetric matrix, or of one triangle of it, from products with the seeds of a symmetric coloring.

A Hessian times a seed is the same from the left and from the right, so one coloring serves JVPs of the gradient
(forward-over-reverse) and VJPs of it (reverse-over-reverse), and each triangle is recovered by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from .._base.words import Direction, Mode, Uplo
from .._coloring.colors import AcyclicColors, SymmetricColors
from .._coloring.equations import Places
from .._coloring.recovery.direct import gather_index
from .._coloring.recovery.substitution import Substitution
from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._products.seeded import Side


@dataclass(eq=False)
class Part:
    """All of a symmetric pattern, or one triangle with the diagonal.

    whole: the symmetric pattern. stored: the entries that have values. entries: where these are in ``whole``, row by
    row; None for all of them.
    """

    whole: SparsityPattern
    stored: SparsityPattern
    entries: Places | None

    @classmethod
    def of(cls, whole: SparsityPattern, uplo: Uplo) -> Part:
        """The part of ``whole`` that ``uplo`` names."""
        if uplo == "full":
            return cls(whole, whole, None)
        inside = whole.rows >= whole.indices if uplo == "lower" else whole.rows <= whole.indices
        counts = np.bincount(whole.rows[inside], minlength=whole.shape[0])
        indptr = np.concatenate([[0], np.cumsum(counts)])
        stored = SparsityPattern.from_csr(indptr, whole.indices[inside], whole.shape, scope=whole.scope)
        stored.notes, stored.provenance, stored.delicate = whole.notes, whole.provenance, whole.delicate
        return cls(whole, stored, np.flatnonzero(inside))

    @cached_property
    def mirrored(self) -> Places:
        """Which stored value each entry of ``whole`` has, (nnz of whole,)."""
        n, whole, stored = self.whole.shape[0], self.whole, self.stored
        if self.entries is None:
            return np.arange(whole.nnz)
        above = np.minimum(whole.rows, whole.indices).astype(np.int64)
        below = np.maximum(whole.rows, whole.indices).astype(np.int64)
        lower = bool((stored.rows >= stored.indices).all())
        keys = below * n + above if lower else above * n + below
        found: Places = np.searchsorted(stored.rows.astype(np.int64) * n + stored.indices, keys)
        return found


class Symmetric:
    """Values of the stored entries of ``part``, row by row, by HVPs in ``direction``; one each without a coloring."""

    def __init__(
        self,
        function: FlatFunction,
        part: Part,
        coloring: SymmetricColors | None,
        direction: Direction,
    ) -> None:
        n = function.n
        self.mode: Mode = direction
        self.num_products = n if coloring is None else coloring.num_colors
        self._dtype, self._device, self._nnz = function.dtype, function.device, part.stored.nnz
        colors = np.arange(n, dtype=np.int32) if coloring is None else coloring.colors
        self.sides = [Side(function, direction, colors, self.num_products)] if self.num_products else []
        written = coloring is None and part.entries is None  # chunks are written where the result will be
        self.joined, self._kept = 0, 0 if written else sum(side.nbytes for side in self.sides)
        self._index, self._solve = _recovery(part, coloring, function.device)

    def kept(self, side: Side) -> int:
        """Bytes that the products are kept in until the values are recovered."""
        return self._kept

    def values(self, args: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """(nnz,)."""
        if not self.sides:
            return torch.zeros(self._nnz, dtype=self._dtype, device=self._device)
        return self.recover(self.sides[0].run(args).reshape(-1))

    def recover(self, compressed: torch.Tensor) -> torch.Tensor:
        """The values from all products, laid end to end."""
        if self._solve is not None:
            return self._solve(compressed)
        return compressed if self._index is None else compressed.index_select(0, self._index)


def _recovery(
    part: Part, coloring: SymmetricColors | None, device: torch.device
) -> tuple[torch.Tensor | None, Substitution | None]:
    """Where each value stands in the products, None for everywhere in order; or the substitution that solves for it."""
    if isinstance(coloring, AcyclicColors):
        return None, Substitution(part.whole, coloring, device, part.entries)
    if coloring is not None:
        places = gather_index(part.whole, coloring)
        places = places if part.entries is None else places[part.entries]
    elif part.entries is None:
        return None, None
    else:
        places = part.entries  # of the full matrix: its entries are its places
    return torch.from_numpy(places).to(device), None
