"""Direct accumulation: the tangent program read for its coefficients, and what is left to run as one program."""

from .program import Program, build
from .refusal import CannotAccumulateError

__all__ = ["CannotAccumulateError", "Program", "build"]
