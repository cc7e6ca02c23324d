"""A matrix that is known by its products, as SciPy's solvers see one: NumPy in and out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator as ScipyOperator

Array = npt.NDArray[np.inexact]
Products = Callable[[torch.Tensor], torch.Tensor]


def scipy_operator(
    jvps: Products, vjps: Products, shape: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> ScipyOperator:
    """Return the operator whose products with every row of a tensor are ``jvps`` and, transposed, ``vjps``."""
    from scipy.sparse.linalg import LinearOperator

    there, back = _through_numpy(jvps, dtype, device), _through_numpy(vjps, dtype, device)
    numpy_dtype = torch.empty(0, dtype=dtype).numpy().dtype
    return LinearOperator(shape, matvec=there, rmatvec=back, matmat=there, rmatmat=back, dtype=numpy_dtype)


def _through_numpy(products: Products, dtype: torch.dtype, device: torch.device) -> Callable[[Array], Array]:
    """Return the same products for vectors (n,), or for columns (n, k), of NumPy; complex ones part by part."""

    def apply(x: Array) -> Array:
        if np.iscomplexobj(x):
            whole: Array = apply(x.real) + 1j * apply(x.imag)
            return whole
        with torch.no_grad():
            rows = torch.from_numpy(np.ascontiguousarray(np.atleast_2d(x.T))).to(device, dtype)
            out: Array = products(rows).cpu().numpy().T
        return out[:, 0] if x.ndim == 1 else out

    return apply
