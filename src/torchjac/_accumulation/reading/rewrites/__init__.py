"""Ops that sum, rewritten in ops that the reader knows, each linear in what depends on v. An import registers a file.

Which places an op reads is said by ``_tangent.rules``, once for detection and for the reader.
"""

from __future__ import annotations

from . import choices, convolution, fourier, linalg, pooling, products, strided
from .registry import REWRITES

FAMILIES = (choices, convolution, fourier, linalg, pooling, products, strided)

__all__ = ["FAMILIES", "REWRITES"]
