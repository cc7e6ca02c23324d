"""The Jacobian of independent samples: the products of one sample, with seeds broadcast over the batch.

J is block diagonal, one block a sample, so the k-th output of every sample shares one VJP and the k-th input one JVP.
The colors are known beforehand and nothing is gathered: a product is a column or a row of every block at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from .._base.words import Args, Colors, Direction
from .._function.flat import FlatFunction
from .._function.leaves import Leaf
from .._matrices.pattern import SparsityPattern
from .._products.seeded import Side

# From so many samples on, one product keeps the device busy: several at once would only take more memory.
_BUSY = {"cpu": 128, "cuda": 2**17}


@dataclass(frozen=True)
class Batch:
    """The sample that each element of the leaves of f belongs to.

    shape: of the batch, the first dimensions of every output and of every input that is not ``shared``.
    shared: for each differentiated leaf, whether all samples read all of it.
    """

    shape: torch.Size
    shared: tuple[bool, ...]

    @property
    def count(self) -> int:
        """The number of samples."""
        return self.shape.numel()

    def event(self, leaf: Leaf, shared: bool = False) -> torch.Size:
        """The shape of one sample's elements of a leaf."""
        return leaf.shape if shared else leaf.shape[len(self.shape) :]

    def inputs(self, function: FlatFunction) -> list[tuple[Leaf, bool, slice]]:
        """Each input leaf, whether it is shared, and its columns in a sample's block."""
        return self._laid_out(function.inputs, self.shared)

    def outputs(self, function: FlatFunction) -> list[tuple[Leaf, bool, slice]]:
        """Each output leaf, False because outputs are not shared, and its rows in a sample's block."""
        return self._laid_out(function.outputs, [False] * len(function.outputs))

    def _laid_out(self, leaves: Sequence[Leaf], shared: Sequence[bool]) -> list[tuple[Leaf, bool, slice]]:
        out, start = [], 0
        for leaf, common in zip(leaves, shared, strict=True):
            stop = start + self.event(leaf, common).numel()
            out.append((leaf, common, slice(start, stop)))
            start = stop
        return out

    def colors(self, laid_out: Sequence[tuple[Leaf, bool, slice]]) -> Colors:
        """The number of each element within its sample: elements with one number share a product."""
        parts = [np.tile(np.arange(s.start, s.stop), 1 if common else self.count) for _, common, s in laid_out]
        return np.concatenate(parts).astype(np.int32)

    def samples(self, leaves: Sequence[Leaf]) -> torch.Tensor:
        """The number of the sample of each element of leaves that are not shared."""
        return torch.from_numpy(self._samples(leaves))

    def _samples(self, leaves: Sequence[Leaf]) -> npt.NDArray[np.int64]:
        return np.concatenate([np.repeat(np.arange(self.count), self.event(leaf).numel()) for leaf in leaves])

    def pattern(self, function: FlatFunction) -> SparsityPattern:
        """The pattern in which the outputs of a sample read its inputs and all shared ones; one index set a sample."""
        first = np.arange(self.count)[:, None]
        columns = []
        for leaf, common, place in self.inputs(function):
            own = leaf.start + np.arange(place.stop - place.start)[None]
            columns.append(np.broadcast_to(own, (self.count, own.size)) if common else first * own.size + own)
        sets = np.concatenate(columns, 1)
        pointers = np.arange(self.count + 1) * sets.shape[1]
        return SparsityPattern((function.m, function.n), self._samples(function.outputs), pointers, sets.reshape(-1))

    def names(self, sample: int) -> str:
        """The index of a sample, as one would write it."""
        return f"[{', '.join(str(int(i)) for i in np.unravel_index(sample, self.shape))}]"


class Batched:
    """The values of the blocks, row-major: for each output leaf (samples, outputs, all inputs), laid end to end."""

    def __init__(self, function: FlatFunction, batch: Batch, direction: Direction) -> None:
        self.mode: Direction = direction
        self._function, self._batch = function, batch
        self._inputs, self._outputs = batch.inputs(function), batch.outputs(function)
        seeded = self._inputs if direction == "forward" else self._outputs
        self.colors = batch.colors(seeded)
        self.num_products = seeded[-1][2].stop
        self.sides = [Side(function, direction, self.colors, self.num_products)]
        self.joined = 0
        self.large = batch.count >= _BUSY.get(function.device.type, _BUSY["cuda"])
        if self.large:
            self.sides[0].products.chunk = 1
            self.sides[0].products.one_at_a_time()

    def kept(self, side: Side) -> int:
        """The bytes of all products, which are kept until they are rearranged to blocks."""
        return side.nbytes

    def values(self, args: Args) -> torch.Tensor:
        """The values, (nnz,), in the order of ``Batch.pattern``."""
        if self.num_products == 0:
            return torch.zeros(0, dtype=self._function.dtype, device=self._function.device)
        compressed = self.sides[0].run(args)
        rows = [_joined([self._block(compressed, o, i) for i in self._inputs], 2) for o in self._outputs]
        return _joined([row.reshape(-1) for row in rows], 0)

    def _block(
        self, compressed: torch.Tensor, out: tuple[Leaf, bool, slice], into: tuple[Leaf, bool, slice]
    ) -> torch.Tensor:
        """The blocks of one output leaf and one input leaf, (samples, outputs, inputs)."""
        (y, _, rows), (x, shared, columns) = out, into
        b, k, n = self._batch.count, rows.stop - rows.start, columns.stop - columns.start
        if self.mode == "reverse":
            assert not shared, "one VJP adds up the derivatives by a shared input over all samples"
            return compressed[rows, x.start : x.stop].reshape(k, b, n).transpose(0, 1)
        return compressed[columns, y.start : y.stop].reshape(n, b, k).permute(1, 2, 0)

    def by_column(self, values: torch.Tensor, u: torch.Tensor, absolute: bool = False) -> torch.Tensor:
        """Return J^T u, (m,) -> (n,), without index tensors; with ``absolute``, |J|^T |u|."""
        return self._by_column(values.abs(), u.abs()) if absolute else self._by_column(values, u)

    def columns_of(self, u: torch.Tensor) -> torch.Tensor:
        """The sum of |u| over the rows that have an entry in each column, (m,) -> (n,)."""
        width = self._inputs[-1][2].stop
        ones = u.new_ones(()).expand(sum(y.numel for y, _, _ in self._outputs) * width)
        return self._by_column(ones, u.abs())

    def _by_column(self, values: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        out = values.new_zeros(self._function.n)
        for (y, _, _), block in zip(self._outputs, self.rows(values), strict=True):
            weights = u[y.start : y.stop].reshape(self._batch.count, -1)
            for x, shared, columns in self._inputs:
                into = "j" if shared else "bj"
                out[x.start : x.stop] += torch.einsum(f"bkj,bk->{into}", block[..., columns], weights).reshape(-1)
        return out

    def rows(self, values: torch.Tensor) -> list[torch.Tensor]:
        """The values of each output leaf, (samples, outputs, all inputs)."""
        width = self._inputs[-1][2].stop
        sizes = [y.numel * width for y, _, _ in self._outputs]
        return [
            part.reshape(self._batch.count, place.stop - place.start, width)
            for part, (_, _, place) in zip(values.split(sizes), self._outputs, strict=True)
        ]

    def blocks(self, values: torch.Tensor) -> dict[tuple[str, str], torch.Tensor]:
        """The block of each pair of leaves by their paths, (*batch, *output, *input)."""
        shape = self._batch.shape
        return {
            (y.path, x.path): row[..., columns].reshape(shape + self._batch.event(y) + self._batch.event(x, shared))
            for (y, _, _), row in zip(self._outputs, self.rows(values), strict=True)
            for x, shared, columns in self._inputs
        }


def _joined(parts: list[torch.Tensor], dim: int) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
