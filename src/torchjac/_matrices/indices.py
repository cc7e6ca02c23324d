"""The index tensors of a pattern on a device, and torch's matrices of them and of values.

Index tensors are made once for a pattern and a device, when first asked for, and
shared by every matrix that has the pattern.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, cached_property
from weakref import WeakKeyDictionary

import numpy as np
import torch

from .pattern import SparsityPattern
from .row_sets import IntArray


class Indices:
    """The rows, columns and pointers of ``pattern`` as tensors on ``device``; entries are numbered row by row."""

    def __init__(self, pattern: SparsityPattern, device: torch.device) -> None:
        self.pattern, self.device, self.shape = pattern, device, pattern.shape
        self.products: WeakKeyDictionary[Indices, Pairs] = WeakKeyDictionary()

    def _here(self, indices: IntArray) -> torch.Tensor:
        return torch.from_numpy(indices.astype(np.int64, copy=False)).to(self.device)

    @cached_property
    def crow(self) -> torch.Tensor:
        """The row pointers, (m + 1,)."""
        return self.pattern.crow_indices.to(self.device)

    @cached_property
    def rows(self) -> torch.Tensor:
        """The row of each entry, (nnz,)."""
        return self._here(self.pattern.rows)

    @cached_property
    def columns(self) -> torch.Tensor:
        """The column of each entry, (nnz,)."""
        return self.pattern.col_indices.to(self.device)

    @cached_property
    def places(self) -> torch.Tensor:
        """The place of each entry in the ravelled dense matrix, (nnz,)."""
        return self.rows * self.shape[1] + self.columns

    @cached_property
    def by_column(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The entries column by column: (column pointers, rows, permutation of the values)."""
        order = np.argsort(self.pattern.indices, kind="stable")
        counts = np.bincount(self.pattern.indices, minlength=self.shape[1])
        pointers, permutation = self._here(np.concatenate([[0], np.cumsum(counts)])), self._here(order)
        return pointers, self.rows[permutation], permutation

    @cached_property
    def diagonal(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries on the diagonal, and their rows."""
        entries = np.flatnonzero(self.pattern.rows == self.pattern.indices)
        return self._here(entries), self._here(self.pattern.rows[entries])

    @cached_property
    def _row_length(self) -> int | None:
        """The number of entries of each row, where all rows have as many; else None."""
        lengths = np.diff(self.pattern.indptr)
        return int(lengths[0]) if lengths.size and (lengths == lengths[0]).all() else None

    def prepare(self) -> None:
        """Make the index tensors that ``row_sums`` needs."""
        if self._row_length is None:
            _ = self.rows

    def row_sums(self, values: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
        """The sums of values * read row by row: (nnz,) and (nnz,) or (nnz, k) -> (m,) or (m, k).

        Rows of one length, as of every periodic stencil, are a batch of small products: no scattered sum.
        """
        m, length = self.shape[0], self._row_length
        if length is not None and read.dim() == 2 and values.dtype == read.dtype:
            return torch.bmm(values.reshape(m, 1, length), read.reshape(m, length, read.shape[1]))[:, 0]
        return self.row_totals(values.reshape(-1, *[1] * (read.dim() - 1)) * read)

    def row_totals(self, terms: torch.Tensor) -> torch.Tensor:
        """The sums of (nnz, ...) terms row by row, (m, ...)."""
        m, length = self.shape[0], self._row_length
        if length is not None:
            return terms if length == 1 else terms.reshape(m, length, *terms.shape[1:]).sum(1)
        return terms.new_zeros((m, *terms.shape[1:])).index_add(0, self.rows, terms)

    @cached_property
    def T(self) -> Indices:
        """The indices of the transposed pattern; ``by_column`` has the order of its values."""
        return indices_of(self.pattern.T, self.device)

    @cached_property
    def gram(self) -> Pairs:
        """The pairs of entries that J^T J adds up to its upper triangle, which is mirrored below."""
        return Pairs.gram(self)

    def times(self, other: Indices) -> Pairs:
        """The pairs of entries that the product with ``other`` adds up; kept for as long as ``other`` lives."""
        if other not in self.products:
            self.products[other] = Pairs.product(self, other)
        return self.products[other]


def indices_of(pattern: SparsityPattern, device: torch.device) -> Indices:
    """The indices of ``pattern`` on ``device``: always the same object, kept with the pattern."""
    found = pattern.on_device.get(device) or pattern.on_device.setdefault(device, Indices(pattern, device))
    assert isinstance(found, Indices)  # nothing else is kept there
    return found


class Pairs:
    """A matrix product in values space: the pairs of entries that are multiplied, and the entry each is added to.

    left, right: (pairs,), entries of the two factors. into: (pairs,), which sum each belongs to, of ``sums``.
    spread: (nnz,) of the product, the sum that each entry is; None where they are the same.
    """

    def __init__(
        self, indices: Indices, pairs: tuple[torch.Tensor, ...], sums: int, spread: torch.Tensor | None
    ) -> None:
        self.indices, (self.left, self.right, self.into) = indices, pairs
        self.sums, self.spread = sums, spread

    @classmethod
    def product(cls, left: Indices, right: Indices) -> Pairs:
        """The pairs of a product A B: entry (i, k) of A meets every entry of row k of B."""
        first, second = _meetings(left.pattern.indices, right.pattern.indptr)
        shape = (left.shape[0], right.shape[1])
        keys = left.pattern.rows[first].astype(np.int64) * shape[1] + right.pattern.indices[second]
        entries, into = np.unique(keys, return_inverse=True)
        indices = indices_of(_pattern_at(entries, shape, (left.pattern, right.pattern)), left.device)
        return cls(indices, tuple(map(left._here, (first, second, into))), entries.size, None)

    @classmethod
    def gram(cls, of: Indices) -> Pairs:
        """The pairs of J^T J: two entries of a row of J meet; half of it is computed, and mirrored."""
        pattern, n = of.pattern, of.shape[1]
        first, second = _meetings(pattern.rows, pattern.indptr)
        upper = first <= second  # within a row columns rise with the number of the entry
        first, second = first[upper], second[upper]
        keys = pattern.indices[first].astype(np.int64) * n + pattern.indices[second]
        above, into = np.unique(keys, return_inverse=True)
        mirrored = above % max(n, 1) * n + above // max(n, 1)
        entries, source = np.unique(np.concatenate([above, mirrored]), return_index=True)
        indices = indices_of(_pattern_at(entries, (n, n), (pattern,)), of.device)
        return cls(
            indices, tuple(map(of._here, (first, second, into))), above.size, of._here(source % max(above.size, 1))
        )

    def values(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """The values of the product from those of the factors."""
        terms = left.index_select(0, self.left) * right.index_select(0, self.right)
        sums = self.total(terms)
        return sums if self.spread is None else sums.index_select(0, self.spread)

    def total(self, terms: torch.Tensor) -> torch.Tensor:
        """The sums of (pairs, ...) terms, before they are spread: (sums, ...)."""
        return terms.new_zeros((self.sums, *terms.shape[1:])).index_add(0, self.into, terms)


def _meetings(rows: IntArray, indptr: IntArray) -> tuple[IntArray, IntArray]:
    """All pairs (a, b) with b an entry of the row ``rows[a]`` of the matrix whose row pointers are ``indptr``."""
    counts = np.diff(indptr)[rows]
    first = np.repeat(np.arange(rows.size), counts)
    begins = np.cumsum(counts) - counts
    return first, np.arange(first.size) + np.repeat(indptr[rows] - begins, counts)


def _pattern_at(keys: IntArray, shape: tuple[int, int], of: tuple[SparsityPattern, ...]) -> SparsityPattern:
    return SparsityPattern.from_coo(keys // max(shape[1], 1), keys % max(shape[1], 1), shape).inherit(*of)


# ---- the layouts


def strided(at: Indices, values: torch.Tensor) -> torch.Tensor:
    """The dense (m, n) tensor, with zeros where nothing is stored."""
    if at.pattern.nnz == at.shape[0] * at.shape[1]:
        return values.reshape(at.shape)
    return values.new_zeros(at.shape[0] * at.shape[1]).index_put_((at.places,), values).reshape(at.shape)


def coo(at: Indices, values: torch.Tensor) -> torch.Tensor:
    """The coalesced torch.sparse_coo tensor."""
    return torch.sparse_coo_tensor(
        torch.stack([at.rows, at.columns]), values, at.shape, is_coalesced=True, check_invariants=False
    )


def csr(at: Indices, values: torch.Tensor) -> torch.Tensor:
    """The torch.sparse_csr tensor."""
    silence_beta()
    return torch.sparse_csr_tensor(at.crow, at.columns, values, at.shape, check_invariants=False)


def csc(at: Indices, values: torch.Tensor) -> torch.Tensor:
    """The torch.sparse_csc tensor."""
    silence_beta()
    pointers, rows, permutation = at.by_column
    return torch.sparse_csc_tensor(
        pointers, rows, values.index_select(0, permutation), at.shape, check_invariants=False
    )


@cache
def silence_beta() -> None:
    """Let PyTorch's warning that compressed sparse tensors are in beta, once in a process, pass unseen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.zeros(2, dtype=torch.int64), [], [], (1, 1), check_invariants=False)


TORCH_LAYOUTS: dict[torch.layout, Callable[[Indices, torch.Tensor], torch.Tensor]] = {
    torch.strided: strided,
    torch.sparse_coo: coo,
    torch.sparse_csr: csr,
    torch.sparse_csc: csc,
}
