"""From the values of all entries to the result: one matrix for each output and input leaf, in the layout asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

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
    """How the values of ``pattern`` become what a plan returns; index tensors are made once, when first needed.

    Dense blocks are looked for at once: it takes time, and their size may not fit.
    """

    def __init__(self, function: FlatFunction, pattern: SparsityPattern, options: Options) -> None:
        self._function, self._pattern, self._options = function, pattern, options
        self._sizes = _block_sizes(function, options)
        self._cuts: dict[tuple[str, str], Cut] = {}
        if options.blocksize is not None:
            self._nested(lambda cut, out, leaf: None)

    @property
    def blocks(self) -> tuple[Blocking, ...]:
        """The dense blocks of each matrix; none where the layout has none."""
        return tuple(cut.blocks for cut in self._cuts.values() if isinstance(cut, BlockedSubmatrix))

    def result(self, values: torch.Tensor) -> Any:
        """Tensors in the layout and nesting that were asked for."""
        pieces = self._pieces
        return pieces.of(values) if isinstance(pieces, _Piece) else tree_map(lambda piece: piece.of(values), pieces)

    @cached_property
    def _pieces(self) -> PyTree:
        """What makes each tensor of the result, nested like it; known once the output of f is."""
        layout = self._options.layout

        def piece(cut: Cut, out: Leaf | None, leaf: Leaf | None) -> _Piece:
            shape = out.shape + leaf.shape if out and leaf and layout is torch.strided else None
            return _Piece(cut.writer(layout), shape)

        return self._nested(piece)

    def matrix(self, values: torch.Tensor) -> Any:
        """One SparseMatrix; with a block layout a BlockMatrix in place of each tensor of the result."""
        if self._options.blocksize is None:
            return SparseMatrix(self._pattern, values)

        def blocks(cut: Cut, out: Leaf | None, leaf: Leaf | None) -> BlockMatrix:
            assert isinstance(cut, BlockedSubmatrix)  # a block layout cuts into nothing else
            return cut.block_matrix(values)

        return self._nested(blocks)

    def _nested(self, make: Callable[[Cut, Leaf | None, Leaf | None], T]) -> Any:
        """``make`` of the part of each output and input leaf, nested like jacrev; of the whole with ``ravel``."""
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
    """A tensor of the result: how it is written from all values, and the shape that it gets."""

    write: Callable[[torch.Tensor], torch.Tensor]
    shape: torch.Size | None

    def of(self, values: torch.Tensor) -> torch.Tensor:
        written = self.write(values)
        return written if self.shape is None else written.reshape(self.shape)


class Blockwise:
    """How the values of a batch become what is returned: for each pair of leaves the blocks that ``cut`` gives."""

    blocks: tuple[Blocking, ...] = ()

    def __init__(self, function: FlatFunction, cut: Callable[[torch.Tensor], BlocksByPath]) -> None:
        self._function, self._cut = function, cut

    def result(self, values: torch.Tensor) -> Any:
        """Tensors (*batch, *output, *input), nested like jacrev."""
        blocks = self._cut(values)
        return self._function.nest(lambda y, x: blocks[y.path, x.path])

    def matrix(self, values: torch.Tensor) -> Any:
        """The tensors themselves: they are dense."""
        return self.result(values)


def _block_sizes(function: FlatFunction, options: Options) -> dict[str, BlockSize]:
    """The size of blocks for each input leaf, by its path; for the one matrix with ``ravel``, by the empty path."""
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
