"""Ops that sum, written in ops that the reader knows; each linear in what depends on v. Importing a file registers it.

Which places an op reads is asked of the rules of ``_tangent.rules``: they say it once, for detection and for here.
"""

from __future__ import annotations

from . import choices, convolution, fourier, linalg, pooling, products, strided
from .registry import SIMPLER

FAMILIES = (choices, convolution, fourier, linalg, pooling, products, strided)

__all__ = ["FAMILIES", "SIMPLER"]
