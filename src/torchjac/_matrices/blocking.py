"""torch.sparse_bsr and sparse_bsc: dense blocks of one size, each that holds an entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .._base.errors import OptionError
from .indices import Indices, silence_beta

BLOCKED = {torch.sparse_bsr: torch.sparse_bsr_tensor, torch.sparse_bsc: torch.sparse_bsc_tensor}


def blocked(at: Indices, values: torch.Tensor, layout: torch.layout, blocksize: Any) -> torch.Tensor:
    """The matrix in blocks, with zeros in them where nothing is stored; differentiable. O(nnz log nnz)."""
    height, width = _checked(at.shape, blocksize)
    by_rows = layout is torch.sparse_bsr
    rows, columns = at.pattern.rows.astype(np.int64), at.pattern.indices.astype(np.int64)
    outer, inner = (rows // height, columns // width) if by_rows else (columns // width, rows // height)
    lines, length = at.shape[0] // height, at.shape[1] // width
    if not by_rows:
        lines, length = length, lines
    keys, block = np.unique(outer * max(length, 1) + inner, return_inverse=True)
    counts = np.bincount(keys // max(length, 1), minlength=lines)
    places = (block * height + rows % height) * width + columns % width
    here = [torch.from_numpy(a).to(at.device) for a in (np.concatenate([[0], np.cumsum(counts)]), keys, places)]
    filled = values.new_zeros(keys.size * height * width).index_put_((here[2],), values)
    silence_beta()
    return BLOCKED[layout](
        here[0], here[1] % max(length, 1), filled.reshape(-1, height, width), at.shape, check_invariants=False
    )


def _checked(shape: tuple[int, int], blocksize: Any) -> tuple[int, int]:
    whole = (
        isinstance(blocksize, tuple) and len(blocksize) == 2 and all(isinstance(b, int) and b > 0 for b in blocksize)
    )
    if not whole or any(size % b for size, b in zip(shape, blocksize, strict=True)):
        raise OptionError(
            f"blocksize={blocksize!r} for a {shape[0]} x {shape[1]} matrix",
            expected="(rows, columns) of a block, that divide those of the matrix",
            instead="to_torch(torch.sparse_bsr, blocksize=(1, 1))",
        )
    return int(blocksize[0]), int(blocksize[1])
