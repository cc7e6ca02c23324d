"""Direct accumulation: the tangent program read for its coefficients, and what is left to run as one program."""

from .emission import MissingEntriesError
from .program import Direction, Program, build
from .refusal import CannotAccumulateError

__all__ = ["CannotAccumulateError", "Direction", "MissingEntriesError", "Program", "build"]
