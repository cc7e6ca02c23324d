"""Matrix-free: a matrix that is known by its products alone, with its products, its entries and its other forms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
import torch

from .._base.errors import InputError
from .._function.leaves import describe
from .._matrices.pattern import SparsityPattern
from .._matrices.sparse import SparseMatrix
from .._products.chunk import chunk_size
from .entries import select
from .scipy_form import scipy_operator

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator as ScipyOperator


class MatrixFree(ABC):
    """An (m, n) matrix by its products with vectors, many at once."""

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device

    @abstractmethod
    def jvps(self, seeds: torch.Tensor) -> torch.Tensor:
        """Return the product with every row of ``seeds``: (k, n) -> (k, m)."""

    @abstractmethod
    def vjps(self, seeds: torch.Tensor) -> torch.Tensor:
        """Return the transposed product with every row of ``seeds``: (k, m) -> (k, n)."""

    @property
    def pattern(self) -> SparsityPattern | None:
        """The pattern of the entries that can be nonzero; None where it is not known."""
        return None

    def all_values(self, at_most: int) -> torch.Tensor | None:
        """Return the values of all entries of the pattern, where they take at most so many products; else None."""
        return None

    @abstractmethod
    def vouch(self) -> None:
        """Raise if the pattern is wrong; called before zeros are taken from it."""

    # ---- products with tensors

    def _times(self, x: torch.Tensor) -> torch.Tensor:
        """Return A x: (n,) -> (m,) or (n, k) -> (m, k)."""
        self._fits(x, 0, self.shape[1], "A @ x", "k")
        return self.jvps(x[None])[0] if x.dim() == 1 else self.jvps(x.T).T

    def _transposed_times(self, u: torch.Tensor) -> torch.Tensor:
        """Return u A: (m,) -> (n,) or (k, m) -> (k, n)."""
        self._fits(u, -1, self.shape[0], "u @ A", "k")
        return self.vjps(u[None])[0] if u.dim() == 1 else self.vjps(u)

    def _fits(self, x: torch.Tensor, dim: int, size: int, what: str, k: str) -> None:
        if x.dim() not in (1, 2) or x.shape[dim] != size or x.layout is not torch.strided:
            shapes = f"({size},) or ({size}, {k})" if dim == 0 else f"({size},) or ({k}, {size})"
            raise InputError(
                f"{what} of {self!r} with a {x.layout} tensor of shape {tuple(x.shape)}",
                expected=f"a strided tensor of shape {shapes}",
                why="rows are the ravelled outputs, columns the ravelled inputs",
            )
        if x.dtype != self.dtype or x.device != self.device:
            raise InputError(
                f"{what} of {self!r} with {describe(x)}",
                expected=f"{self.dtype} on {self.device}",
                instead="x.to(A.device, A.dtype)",
            )

    # ---- entries

    def __getitem__(self, index: object) -> torch.Tensor:
        """Return ``A.to_dense()[index]``, by as few products as possible.

        Ints, slices, lists, tensors, masks, ``None`` and ``...`` mean what they mean to a tensor. Without a pattern it
        takes a product for every row or every column that is asked for, whichever are fewer; with one, rows or columns
        that do not get in each other's way share a product, and entries outside of it cost nothing.
        """
        return select(self, index)

    def rows(self, i: object) -> torch.Tensor:
        """Return ``A[i, :]``: (n,) for an int, (k, n) for a slice, list or tensor."""
        return self[i, :]

    def columns(self, j: object) -> torch.Tensor:
        """Return ``A[:, j]``: (m,) for an int, (m, k) for a slice, list or tensor."""
        return self[:, j]

    def diagonal(self) -> torch.Tensor:
        """Return the diagonal, (min(m, n),)."""
        along = torch.arange(min(self.shape))
        return self[along, along]

    # ---- other forms

    def to_dense(self) -> torch.Tensor:
        """Return the (m, n) tensor; it takes min(m, n) products, or as many as the pattern has colors."""
        if self.pattern is not None:
            return SparseMatrix(self.pattern, self._values(self.pattern)).to_dense()
        m, n = self.shape
        count, of = (n, self.jvps) if n < m else (m, self.vjps)
        unit = torch.eye(count, dtype=self.dtype, device=self.device)
        chunk = chunk_size(count, m + n, self.dtype.itemsize)
        parts = [of(unit[start : start + chunk]) for start in range(0, count, chunk)]
        whole = torch.cat(parts) if parts else torch.zeros(0, max(m, n), dtype=self.dtype, device=self.device)
        return whole.T if n < m else whole

    def _values(self, pattern: SparsityPattern) -> torch.Tensor:
        values = self.all_values(max(self.shape))
        rows = torch.from_numpy(pattern.rows.astype(np.int64))
        return self[rows, pattern.col_indices] if values is None else values

    def to_scipy(self) -> ScipyOperator:
        """Return a ``scipy.sparse.linalg.LinearOperator``: NumPy in and out, for ``lsqr``, ``gmres``, ``svds``."""
        if self.dtype is torch.bfloat16:
            raise InputError(
                f"{self!r}", expected="a dtype that NumPy has", why="SciPy computes with NumPy", instead="x.float()"
            )
        return scipy_operator(self.jvps, self.vjps, self.shape, self.dtype, self.device)

    def __repr__(self) -> str:
        m, n = self.shape
        known = "" if self.pattern is None else f", {self.pattern.nnz:,} entries"
        return f"{type(self).__name__}({m} x {n}{known}, {self.dtype} on {self.device})"
