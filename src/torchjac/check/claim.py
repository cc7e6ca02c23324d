"""The claim: a Jacobian that somebody computed, in any form, with what a check needs of it as NumPy float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch.utils import _pytree as pytree

from .._base.errors import InputError
from .._function.flat import FlatFunction
from .._function.leaves import Leaf
from .._matrices.sparse import SparseMatrix
from .._operators.linear import LinearOperator

Numbers = npt.NDArray[np.float64]


class Given(Protocol):
    """A matrix or block as somebody gives it: of torch, NumPy, SciPy or torchjac."""

    @property
    def shape(self) -> Sequence[int]:
        """The shape of a matrix, or of an output and then an input."""

    @property
    def dtype(self) -> torch.dtype | npt.DTypeLike:
        """The dtype, of the library that the matrix is of."""


class Matrix(Protocol):
    """A NumPy array, a SciPy ``csr_array`` or a SciPy ``LinearOperator``, which has no absolute value."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The numbers of rows and columns."""

    @property
    def T(self) -> Matrix:
        """The transposed matrix."""

    def __matmul__(self, x: Numbers, /) -> Numbers: ...
    def __abs__(self) -> Matrix: ...


class SparseRows(Matrix, Protocol):
    """A SciPy ``csr_array``, or ``csc_array`` where it was transposed."""

    indptr: npt.NDArray[np.integer]
    indices: npt.NDArray[np.integer]

    def __getitem__(self, rows: list[int], /) -> SparseRows: ...
    def toarray(self) -> Numbers:
        """Return the dense matrix."""


@dataclass(frozen=True)
class ClaimBlock:
    """One block of the claim: where it is, and its numbers."""

    rows: slice
    columns: slice
    matrix: Matrix


class Claim:
    """An (m, n) matrix in blocks, with numbers of precision ``eps``."""

    def __init__(self, shape: tuple[int, int], blocks: list[ClaimBlock], eps: float) -> None:
        self.shape, self.blocks, self.eps = shape, blocks, eps

    @property
    def explicit(self) -> bool:
        """Whether numbers of the claim can be read, and not only multiplied."""
        return not any(_is_operator(block.matrix) for block in self.blocks)

    def times(self, v: Numbers, absolute: bool = False) -> Numbers:
        """Return C v; with ``absolute``, the product of absolute values."""
        out = np.zeros(self.shape[0])
        for block in self.blocks:
            out[block.rows] += (abs(block.matrix) if absolute else block.matrix) @ v[block.columns]
        return out

    def transposed_times(self, u: Numbers, absolute: bool = False) -> Numbers:
        """Return C^T u; with ``absolute``, the product of absolute values."""
        out = np.zeros(self.shape[1])
        for block in self.blocks:
            out[block.columns] += (abs(block.matrix) if absolute else block.matrix).T @ u[block.rows]
        return out

    def row(self, i: int) -> Numbers:
        """Return row ``i``, (n,)."""
        out = np.zeros(self.shape[1])
        for block in self.blocks:
            if block.rows.start <= i < block.rows.stop:
                out[block.columns] = _row(block.matrix, i - block.rows.start)
        return out

    def column(self, j: int) -> Numbers:
        """Return column ``j``, (m,)."""
        out = np.zeros(self.shape[0])
        for block in self.blocks:
            if block.columns.start <= j < block.columns.stop:
                out[block.rows] = _row(block.matrix.T, j - block.columns.start)
        return out

    def stores(self, i: int, j: int) -> bool:
        """Tell whether the claim has a place for the entry (i, j), as all but sparse blocks have."""
        for block in self.blocks:
            if block.rows.start <= i < block.rows.stop and block.columns.start <= j < block.columns.stop:
                if not _is_sparse(block.matrix):
                    return True
                row = i - block.rows.start
                inside = block.matrix.indices[block.matrix.indptr[row] : block.matrix.indptr[row + 1]]
                return bool((inside == j - block.columns.start).any())
        return False


def _row(matrix: Matrix, i: int) -> Numbers:
    """Return row ``i``."""
    if isinstance(matrix, np.ndarray):
        row: Numbers = matrix[i]
        return row
    if _is_sparse(matrix):
        alone: Numbers = matrix[[i]].toarray()[0]
        return alone
    unit: Numbers = np.eye(1, matrix.shape[0], i)[0]
    product: Numbers = matrix.T @ unit
    return product


def _is_operator(matrix: object) -> TypeGuard[Matrix]:
    return hasattr(matrix, "matvec")


def _is_sparse(matrix: object) -> TypeGuard[SparseRows]:
    return hasattr(matrix, "indptr")


class ShapeMismatch(Exception):
    """A block of the claim has a shape that it cannot have."""

    def __init__(self, out: Leaf, leaf: Leaf, matrix: Given, expected: list[tuple[int, ...]]) -> None:
        self.out, self.leaf, self.matrix, self.expected = out, leaf, matrix, expected


def read_claim(J: object, function: FlatFunction) -> Claim:
    """Return the claim in ``J``: one matrix, or a tree of them like that of ``torch.func.jacrev``."""
    m, n = function.m, function.n
    if _is_matrix(J) and len(function.outputs) * len(function.inputs) != 1:
        whole = Leaf("f(...)", torch.Size([m]), function.dtype, function.device, 0)
        inputs = Leaf("args", torch.Size([n]), function.dtype, function.device, 0)
        return Claim((m, n), [_block(J, whole, inputs)], _eps(J))
    expected = function.nest(lambda out, leaf: (out, leaf))
    pairs, spec = pytree.tree_flatten(_without_lists(expected), is_leaf=_is_pair)
    given, given_spec = pytree.tree_flatten(_without_lists(J), is_leaf=_is_matrix)
    if spec != given_spec:
        raise InputError(
            f"J is {_sketch(J)}",
            expected=f"{_sketch(pytree.tree_map(lambda _: '*', expected, is_leaf=_is_pair))}, or one ({m}, {n}) matrix",
            why="blocks are nested as those of torch.func.jacrev: outputs outside, inputs inside",
        )
    blocks = [_block(matrix, out, leaf) for (out, leaf), matrix in zip(pairs, given, strict=True)]
    return Claim((m, n), blocks, max(map(_eps, given)))


def _block(matrix: Given, out: Leaf, leaf: Leaf) -> ClaimBlock:
    shape, flat = tuple(matrix.shape), (out.numel, leaf.numel)
    full = (*out.shape, *leaf.shape)
    plain = isinstance(matrix, np.ndarray) or (isinstance(matrix, torch.Tensor) and matrix.layout is torch.strided)
    if shape != flat and not (plain and shape == full):
        raise ShapeMismatch(out, leaf, matrix, [flat] if flat == full else [full, flat])
    return ClaimBlock(slice(out.start, out.stop), slice(leaf.start, leaf.stop), as_numpy(matrix, flat))


def as_numpy(matrix: Given, shape: tuple[int, int]) -> Matrix:
    """Return a matrix in one of the three forms that a claim has."""
    from scipy import sparse

    if isinstance(matrix, LinearOperator):
        operator: Matrix = matrix.to_scipy()
        return operator
    if isinstance(matrix, SparseMatrix):
        matrix = matrix.with_values(matrix.values.detach().double()).to_scipy()
    if isinstance(matrix, torch.Tensor):
        matrix = _from_torch(matrix.detach())
    if sparse.issparse(matrix):
        rows: Matrix = sparse.csr_array(matrix, dtype=np.float64)
        return rows
    if _is_operator(matrix):
        return matrix
    return np.asarray(matrix, np.float64).reshape(shape)


def _from_torch(matrix: torch.Tensor) -> Any:
    from scipy import sparse

    def numbers(t: torch.Tensor) -> Numbers:
        out: Numbers = t.cpu().double().numpy()
        return out

    def indices(t: torch.Tensor) -> npt.NDArray[np.integer]:
        out: npt.NDArray[np.integer] = t.cpu().numpy()
        return out

    if matrix.layout is torch.strided:
        return numbers(matrix)
    (m, n), values = matrix.shape, numbers(matrix._values() if matrix.layout is torch.sparse_coo else matrix.values())
    if matrix.layout is torch.sparse_coo:
        return sparse.coo_array((values, tuple(indices(matrix._indices()))), shape=(m, n))
    if matrix.layout in (torch.sparse_csr, torch.sparse_bsr):
        made = sparse.csr_array if matrix.layout is torch.sparse_csr else sparse.bsr_array
        return made((values, indices(matrix.col_indices()), indices(matrix.crow_indices())), shape=(m, n))
    rows, pointers = indices(matrix.row_indices()), indices(matrix.ccol_indices())
    if matrix.layout is torch.sparse_csc:
        return sparse.csc_array((values, rows, pointers), shape=(m, n))
    return sparse.bsr_array((values.swapaxes(1, 2), rows, pointers), shape=(n, m)).T


def _is_matrix(thing: object) -> TypeGuard[Given]:
    return hasattr(thing, "shape") and hasattr(thing, "dtype")


def _is_pair(thing: object) -> bool:
    return isinstance(thing, tuple) and len(thing) == 2 and isinstance(thing[0], Leaf)


def _without_lists(tree: object) -> object:
    if isinstance(tree, (list, tuple)) and not _is_pair(tree) and not hasattr(tree, "_fields"):
        return tuple(map(_without_lists, tree))
    return {key: _without_lists(value) for key, value in tree.items()} if type(tree) is dict else tree


def _sketch(tree: object) -> str:
    """Return the nesting of a tree as text, with * for each matrix in it."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {_sketch(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, (list, tuple)):
        return "(" + ", ".join(map(_sketch, tree)) + ("," if len(tree) == 1 else "") + ")"
    return "*" if isinstance(tree, str) or _is_matrix(tree) else type(tree).__name__


def _eps(matrix: Given) -> float:
    dtype = matrix.dtype
    if isinstance(dtype, torch.dtype):
        return torch.finfo(dtype).eps if dtype.is_floating_point else 0.0
    name = np.dtype(dtype).name
    return float(np.finfo(name).eps) if np.issubdtype(name, np.floating) else 0.0
