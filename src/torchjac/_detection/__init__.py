"""Detection: the sparsity pattern of a function, by following what is linear in a direction through its derivative."""

from .detect import detect, detect_hessian, mirrored
from .glance import glance, is_cheap
from .samples import Meeting, Seen, see

__all__ = ["Meeting", "Seen", "detect", "detect_hessian", "glance", "is_cheap", "mirrored", "see"]
