"""Programs of direct accumulation, built for a function in one direction, and their values as a dense matrix."""

from __future__ import annotations

import numpy as np
import torch
from internals import FlatFunction, Program, build, detect

from torchjac import SparsityPattern

DIRECTIONS = ("forward", "reverse")


def program(f, args, direction="forward", argnums=0, limit=10**7) -> tuple[Program, SparsityPattern]:
    function = FlatFunction(f, args, argnums)
    pattern = detect(function, args)
    return build(function, args, pattern, direction, limit), pattern


def dense(values: torch.Tensor, pattern: SparsityPattern) -> torch.Tensor:
    J = torch.zeros(pattern.shape, dtype=values.dtype)
    J[torch.from_numpy(pattern.rows.astype(np.int64)), pattern.col_indices.long()] = values
    return J
