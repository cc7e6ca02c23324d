"""Fourier transforms over short dimensions: products with the transform of a unit matrix, a dimension at a time."""

from __future__ import annotations

import torch

from ...._base.words import OpResult
from ...._tangent.call import Call
from .products import contract
from .registry import SHORT, rewrite

_aten = torch.ops.aten


@rewrite("_fft_c2c")
def complex_to_complex(call: Call) -> OpResult:
    """Transform along each of ``dim``."""
    return _transformed(call["self"], call["dim"], call["normalization"], call["forward"])


@rewrite("_fft_r2c")
def real_to_complex(call: Call) -> OpResult:
    """Transform the last of ``dim``, which gives complex numbers, then the others."""
    x, (*others, last) = call["self"], call["dim"]
    if x.shape[last] > SHORT:
        return NotImplemented
    unit = torch.eye(x.shape[last], dtype=x.dtype, device=x.device)
    matrix = _aten._fft_r2c(unit, [0], call["normalization"], call["onesided"])
    return _transformed(_along(x, last, matrix), others, call["normalization"], True)


@rewrite("_fft_c2r")
def complex_to_real(call: Call) -> OpResult:
    """Transform all but the last of ``dim``, then the last: real numbers, from real and imaginary parts apart."""
    x, (*others, last) = call["self"], call["dim"]
    x = _transformed(x, others, call["normalization"], False)
    if x is NotImplemented or x.shape[last] > SHORT:
        return NotImplemented
    unit = torch.eye(x.shape[last], dtype=x.dtype, device=x.device)
    parts = torch.view_as_real(x)
    real, imaginary = (
        _along(parts.select(-1, k), last, _aten._fft_c2r(unit * f, [0], call["normalization"], call["last_dim_size"]))
        for k, f in enumerate((1, 1j))
    )
    return real + imaginary


def _transformed(x: torch.Tensor, dims: list[int], normalization: int, forward: bool) -> OpResult:
    if any(x.shape[d] > SHORT for d in dims):
        return NotImplemented
    for d in dims:
        unit = torch.eye(x.shape[d], dtype=x.dtype, device=x.device)
        x = _along(x, d, _aten._fft_c2c(unit, [0], normalization, forward))
    return x


def _along(x: torch.Tensor, dim: int, matrix: torch.Tensor) -> torch.Tensor:
    """Return ``matrix`` @ x along a dimension."""
    product: torch.Tensor = contract(x.movedim(dim, -1), matrix.mT).movedim(-1, dim)
    return product
