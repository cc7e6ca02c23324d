"""A Jacobian that somebody computed, in any form: what a check needs of it, as NumPy float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True)
class Block:
    """One block of the claim: where it is, and a NumPy array, a SciPy ``csr_array`` or a SciPy ``LinearOperator``."""

    rows: slice
    columns: slice
    matrix: Any


class Claim:
    """An (m, n) matrix in blocks."""

    def __init__(self, shape: tuple[int, int], blocks: list[Block], eps: float) -> None:
        self.shape, self.blocks, self.eps = shape, blocks, eps

    @property
    def explicit(self) -> bool:
        """Whether its numbers can be read, and not only multiplied."""
        return not any(hasattr(block.matrix, "matvec") for block in self.blocks)

    def times(self, v: Numbers, absolute: bool = False) -> Numbers:
        """J v; with ``absolute``, of absolute values."""
        out = np.zeros(self.shape[0])
        for block in self.blocks:
            out[block.rows] += (abs(block.matrix) if absolute else block.matrix) @ v[block.columns]
        return out

    def transposed_times(self, u: Numbers, absolute: bool = False) -> Numbers:
        """J^T u; with ``absolute``, of absolute values."""
        out = np.zeros(self.shape[1])
        for block in self.blocks:
            out[block.columns] += (abs(block.matrix) if absolute else block.matrix).T @ u[block.rows]
        return out

    def row(self, i: int) -> Numbers:
        """(n,)."""
        out = np.zeros(self.shape[1])
        for block in self.blocks:
            if block.rows.start <= i < block.rows.stop:
                out[block.columns] = _line(block.matrix, i - block.rows.start)
        return out

    def column(self, j: int) -> Numbers:
        """(m,)."""
        out = np.zeros(self.shape[0])
        for block in self.blocks:
            if block.columns.start <= j < block.columns.stop:
                out[block.rows] = _line(block.matrix.T, j - block.columns.start)
        return out

    def stores(self, i: int, j: int) -> bool:
        """Whether it has a place for the entry (i, j), as all but sparse blocks have."""
        for block in self.blocks:
            if block.rows.start <= i < block.rows.stop and block.columns.start <= j < block.columns.stop:
                if not hasattr(block.matrix, "indptr"):
                    return True
                row = i - block.rows.start
                inside = block.matrix.indices[block.matrix.indptr[row] : block.matrix.indptr[row + 1]]
                return bool((inside == j - block.columns.start).any())
        return False


def _line(matrix: Any, i: int) -> Any:
    """One row."""
    if hasattr(matrix, "matvec"):
        return matrix.T @ np.eye(1, matrix.shape[0], i)[0]
    return matrix[[i]].toarray()[0] if hasattr(matrix, "toarray") else matrix[i]


class ShapeMismatch(Exception):
    """A block of the claim has a shape that it cannot have."""

    def __init__(self, out: Leaf, leaf: Leaf, matrix: Any, expected: list[tuple[int, ...]]) -> None:
        self.out, self.leaf, self.matrix, self.expected = out, leaf, matrix, expected


def read_claim(J: Any, function: FlatFunction) -> Claim:
    """The claim in ``J``: one matrix, or a tree of them like that of ``torch.func.jacrev``."""
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


def _block(matrix: Any, out: Leaf, leaf: Leaf) -> Block:
    shape, flat = tuple(matrix.shape), (out.numel, leaf.numel)
    full = (*out.shape, *leaf.shape)
    plain = isinstance(matrix, np.ndarray) or (isinstance(matrix, torch.Tensor) and matrix.layout is torch.strided)
    if shape != flat and not (plain and shape == full):
        raise ShapeMismatch(out, leaf, matrix, [flat] if flat == full else [full, flat])
    return Block(slice(out.start, out.stop), slice(leaf.start, leaf.stop), as_numpy(matrix, flat))


def as_numpy(matrix: Any, shape: tuple[int, int]) -> Any:
    """A NumPy array, a SciPy ``csr_array`` or a SciPy ``LinearOperator``."""
    from scipy import sparse

    if isinstance(matrix, LinearOperator):
        return matrix.to_scipy()
    if isinstance(matrix, SparseMatrix):
        matrix = matrix.with_values(matrix.values.detach().double()).to_scipy()
    if isinstance(matrix, torch.Tensor):
        matrix = _from_torch(matrix.detach())
    if sparse.issparse(matrix):
        return sparse.csr_array(matrix, dtype=np.float64)
    if hasattr(matrix, "matvec"):
        return matrix
    return np.asarray(matrix, np.float64).reshape(shape)


def _from_torch(matrix: torch.Tensor) -> Any:
    from scipy import sparse

    def numbers(t: torch.Tensor) -> Any:
        return t.cpu().double().numpy()

    def indices(t: torch.Tensor) -> Any:
        return t.cpu().numpy()

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


def _is_matrix(thing: Any) -> bool:
    return hasattr(thing, "shape") and hasattr(thing, "dtype")


def _is_pair(thing: Any) -> bool:
    return isinstance(thing, tuple) and len(thing) == 2 and isinstance(thing[0], Leaf)


def _without_lists(tree: Any) -> Any:
    if isinstance(tree, (list, tuple)) and not _is_pair(tree) and not hasattr(tree, "_fields"):
        return tuple(map(_without_lists, tree))
    return {key: _without_lists(value) for key, value in tree.items()} if type(tree) is dict else tree


def _sketch(tree: Any) -> str:
    """The nesting of a tree, with * for what is in it."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{key!r}: {_sketch(value)}" for key, value in tree.items()) + "}"
    if isinstance(tree, (list, tuple)):
        return "(" + ", ".join(map(_sketch, tree)) + ("," if len(tree) == 1 else "") + ")"
    return "*" if isinstance(tree, str) or _is_matrix(tree) else type(tree).__name__


def _eps(matrix: Any) -> float:
    dtype = matrix.dtype
    if isinstance(dtype, torch.dtype):
        return torch.finfo(dtype).eps if dtype.is_floating_point else 0.0
    return float(np.finfo(dtype).eps) if np.issubdtype(dtype, np.floating) else 0.0
