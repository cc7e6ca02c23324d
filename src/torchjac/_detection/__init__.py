"""Detection: the sparsity pattern of a function, by following what is linear in a direction through its derivative."""

from .detect import detect, detect_hessian, mirrored
from .glance import glance, is_cheap

__all__ = ["detect", "detect_hessian", "glance", "is_cheap", "mirrored"]
