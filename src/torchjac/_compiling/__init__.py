"""``compile=True``: a plan's program of tensor ops, compiled."""

from .compiled import Compiled

__all__ = ["Compiled"]
