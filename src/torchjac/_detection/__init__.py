"""Detection: the sparsity pattern of a function, by following what is linear in a direction through its derivative."""

from .detect import detect, detect_hessian, mirrored

__all__ = ["detect", "detect_hessian", "mirrored"]
