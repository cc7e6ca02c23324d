"""Conversion to a SparsityPattern of everything that can stand for one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .._base.errors import PatternError
from .pattern import ScipyMatrix, SparsityPattern

PatternLike = SparsityPattern | ScipyMatrix | torch.Tensor | npt.ArrayLike


def as_pattern(pattern: PatternLike) -> SparsityPattern:
    """A SparsityPattern from a SparsityPattern, a SciPy sparse matrix, a torch sparse tensor, or a dense matrix."""
    if isinstance(pattern, SparsityPattern):
        return pattern
    if isinstance(pattern, torch.Tensor) and pattern.layout is not torch.strided:
        coo = pattern.detach().cpu().to_sparse_coo()
        if coo.dim() != 2 or coo.sparse_dim() != 2:
            raise PatternError(
                f"a sparse tensor of shape {tuple(pattern.shape)}", expected="two sparse dimensions, (m, n)"
            )
        rows, columns = coo._indices()
        return SparsityPattern.from_coo(rows.numpy(), columns.numpy(), (coo.shape[0], coo.shape[1]))
    if isinstance(pattern, ScipyMatrix):
        return SparsityPattern.from_scipy(pattern)
    if isinstance(pattern, (torch.Tensor, np.ndarray, list, tuple)):
        return SparsityPattern.from_dense(torch.as_tensor(pattern))
    raise PatternError(
        f"a pattern of type {type(pattern).__name__}",
        expected="a SparsityPattern, a SciPy sparse matrix, a torch sparse tensor or a dense (m, n) array",
        instead="torchjac.SparsityPattern.from_coo(rows, columns, (m, n))",
    )


def wanted_entries(entries: PatternLike | str, shape: tuple[int, int]) -> SparsityPattern:
    """The pattern of the wanted entries of a matrix of ``shape``: of the word "diagonal", or of a pattern."""
    if isinstance(entries, str):
        places = np.arange(min(shape))
        return SparsityPattern.from_coo(places, places, shape)
    pattern = as_pattern(entries)
    if pattern.shape != shape:
        raise PatternError(
            f"entries of shape {pattern.shape}",
            expected=f"shape {shape}: {shape[0]} ravelled outputs by {shape[1]} ravelled inputs",
            instead="SparsityPattern.from_coo(rows, columns, shape), or entries='diagonal'",
        )
    return pattern
