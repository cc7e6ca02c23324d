"""The values of a symmetric matrix, or of one triangle of it, from products with the seeds of a symmetric coloring.

A Hessian times a seed is the same from the left and from the right, so one coloring serves JVPs of the gradient
(forward-over-reverse) and VJPs of it (reverse-over-reverse), and each triangle is recovered by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from .._base.words import Args, Direction, Mode, Uplo
from .._coloring.colors import SymmetricColors
from .._coloring.equations import Places
from .._coloring.recovery.direct import gather_index
from .._coloring.recovery.substitution import Substitution
from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._products.seeded import Side
from .colored import Recover, reading_off


@dataclass(eq=False)
class StoredEntries:
    """The entries of a pattern that have values: all of them, some, or one triangle of a symmetric matrix.

    whole: every entry that can be nonzero. stored: those that have values. places: for a triangle, the place of each
    stored entry among those of ``whole``, row by row; None otherwise.
    """

    whole: SparsityPattern
    stored: SparsityPattern
    places: Places | None

    @classmethod
    def of(cls, whole: SparsityPattern, uplo: Uplo) -> StoredEntries:
        """The entries of the symmetric pattern ``whole`` that ``uplo`` names."""
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
        """The number of the stored value that each entry of ``whole`` has, (nnz of whole,)."""
        n, whole, stored = self.whole.shape[0], self.whole, self.stored
        if self.places is None:
            return np.arange(whole.nnz)
        above = np.minimum(whole.rows, whole.indices).astype(np.int64)
        below = np.maximum(whole.rows, whole.indices).astype(np.int64)
        lower = bool((stored.rows >= stored.indices).all())
        keys = below * n + above if lower else above * n + below
        found: Places = np.searchsorted(stored.rows.astype(np.int64) * n + stored.indices, keys)
        return found


class Symmetric:
    """The values of the stored entries, row by row, by HVPs in ``direction``; n of them without a coloring."""

    def __init__(
        self,
        function: FlatFunction,
        entries: StoredEntries,
        coloring: SymmetricColors | None,
        direction: Direction,
    ) -> None:
        n = function.n
        self.mode: Mode = direction
        self.num_products = n if coloring is None else coloring.num_colors
        self._dtype, self._device, self._nnz = function.dtype, function.device, entries.stored.nnz
        colors = np.arange(n, dtype=np.int32) if coloring is None else coloring.colors
        self.sides = [Side(function, direction, colors, self.num_products)] if self.num_products else []
        written = coloring is None and entries.places is None  # chunks are written where the result will be
        self.joined, self._kept = 0, 0 if written else sum(side.nbytes for side in self.sides)
        self.recover = _recovery(entries, coloring, function.device)

    def kept(self, side: Side) -> int:
        """The bytes of all products, which are kept until the values are recovered."""
        return self._kept

    def values(self, args: Args) -> torch.Tensor:
        """The values, (nnz,)."""
        if not self.sides:
            return torch.zeros(self._nnz, dtype=self._dtype, device=self._device)
        return self.recover(self.sides[0].run(args).reshape(-1))


def _recovery(entries: StoredEntries, coloring: SymmetricColors | None, device: torch.device) -> Recover:
    """The recovery of the stored values: substitution, a gather, or for a dense matrix no change."""
    if coloring is not None and coloring.by_substitution:
        return Substitution(entries.whole, coloring, device, entries.places)
    if coloring is not None:
        places = gather_index(entries.whole, coloring)
        return reading_off(places if entries.places is None else places[entries.places], device)
    if entries.places is not None:
        return reading_off(entries.places, device)  # in a dense matrix, the number of an entry is its place
    return lambda compressed: compressed
