"""The results of plans, made from the values of all entries: a matrix in the chosen layout for each pair of leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch.utils._pytree import PyTree, tree_map

from .._base.errors import OptionError
from .._function.flat import FlatFunction
from .._function.leaves import Leaf
from .._matrices.block import BlockMatrix
from .._matrices.blocking import Blocking, BlockSize
from .._matrices.layouts import BlockedSubmatrix, Submatrix
from .._matrices.pattern import SparsityPattern
from .._matrices.sparse import SparseMatrix
from .options import Options

Cut = Submatrix | BlockedSubmatrix
BlocksByPath = dict[tuple[str, str], torch.Tensor]
T = TypeVar("T")


class Assembly:
    """The assembly of a result from the values of ``pattern``; index tensors are made once, when first needed.

    The constructor finds the dense blocks: the search takes time, and raises where their size does not fit.
    """

    def __init__(self, function: FlatFunction, pattern: SparsityPattern, options: Options) -> None:
        self._function, self._pattern, self._options = function, pattern, options
        self._sizes = _block_sizes(function, options)
        self._cuts: dict[tuple[str, str], Cut] = {}
        if options.blocksize is not None:
            self._nested(lambda cut, out, leaf: None)

    @property
    def blocks(self) -> tuple[Blocking, ...]:
        """The dense blocks of each matrix; empty where the layout has none."""
        return tuple(cut.blocks for cut in self._cuts.values() if isinstance(cut, BlockedSubmatrix))

    def result(self, values: torch.Tensor) -> PyTree:
        """Return the tensors in the chosen layout and nesting."""
        pieces = self._pieces
        return pieces.of(values) if isinstance(pieces, _Piece) else tree_map(lambda piece: piece.of(values), pieces)

    @cached_property
    def _pieces(self) -> PyTree:
        """The maker of each tensor of the result, in the same nesting; known once the output of f is."""
        layout = self._options.layout

        def piece(cut: Cut, out: Leaf | None, leaf: Leaf | None) -> _Piece:
            shape = out.shape + leaf.shape if out and leaf and layout is torch.strided else None
            return _Piece(cut.writer(layout), shape)

        return self._nested(piece)

    def matrix(self, values: torch.Tensor) -> PyTree:
        """Return one SparseMatrix; with a block layout a BlockMatrix in place of each tensor of the result."""
        if self._options.blocksize is None:
            return SparseMatrix(self._pattern, values)

        def blocks(cut: Cut, out: Leaf | None, leaf: Leaf | None) -> BlockMatrix:
            assert isinstance(cut, BlockedSubmatrix)  # a block layout has no other parts
            return cut.block_matrix(values)

        return self._nested(blocks)

    def _nested(self, make: Callable[[Cut, Leaf | None, Leaf | None], T]) -> PyTree:
        """Return ``make(part, output, input)`` for each pair of leaves, nested like jacrev; just one with ``ravel``."""
        function = self._function
        if self._options.ravel:
            return make(self._cut("", (0, function.m), "", (0, function.n)), None, None)

        def part(out: Leaf, leaf: Leaf) -> T:
            rows, columns = (out.start, out.stop), (leaf.start, leaf.stop)
            return make(self._cut(out.path, rows, leaf.path, columns), out, leaf)

        return function.nest(part)

    def _cut(self, out: str, rows: tuple[int, int], leaf: str, columns: tuple[int, int]) -> Cut:
        if (out, leaf) not in self._cuts:
            cut = Submatrix(self._pattern, rows, columns, self._function.device)
            size = self._sizes.get(leaf)
            self._cuts[out, leaf] = cut if size is None else BlockedSubmatrix(cut, self._options.layout, size)
        return self._cuts[out, leaf]


@dataclass(frozen=True)
class _Piece:
    """The maker of one tensor of the result: a function that writes it from all values, and its final shape."""

    write: Callable[[torch.Tensor], torch.Tensor]
    shape: torch.Size | None

    def of(self, values: torch.Tensor) -> torch.Tensor:
        written = self.write(values)
        return written if self.shape is None else written.reshape(self.shape)


class Blockwise:
    """The assembly of a result from the values of a batch: for each pair of leaves the blocks that ``cut`` gives."""

    blocks: tuple[Blocking, ...] = ()

    def __init__(self, function: FlatFunction, cut: Callable[[torch.Tensor], BlocksByPath]) -> None:
        self._function, self._cut = function, cut

    def result(self, values: torch.Tensor) -> PyTree:
        """Return the tensors (*batch, *output, *input), nested like jacrev."""
        blocks = self._cut(values)
        return self._function.nest(lambda y, x: blocks[y.path, x.path])

    def matrix(self, values: torch.Tensor) -> PyTree:
        """Return the same tensors as ``result``: they are dense."""
        return self.result(values)


def _block_sizes(function: FlatFunction, options: Options) -> dict[str, BlockSize]:
    """Return the size of blocks for each input leaf by its path; for the one matrix of ``ravel`` the path is empty."""
    size = options.blocksize
    if size is None:
        return {}
    paths = [""] if options.ravel else [leaf.path for leaf in function.inputs]
    if not isinstance(size[0], tuple):
        return dict.fromkeys(paths, size)
    if options.ravel or len(size) != len(paths):
        raise OptionError(
            f"blocksize={size!r} for " + ("one matrix (ravel=True)" if options.ravel else f"{len(paths)} inputs"),
            expected="(rows, columns)" if options.ravel else f"(rows, columns), or {len(paths)} such pairs",
        )
    return dict(zip(paths, size, strict=True))
