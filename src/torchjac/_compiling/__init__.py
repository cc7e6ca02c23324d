"""``compile=True``: a plan's program of tensor ops, compiled."""

from .compiled import Compiled, Values

__all__ = ["Compiled", "Values"]
