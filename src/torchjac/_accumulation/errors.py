"""The error that says why a Jacobian cannot be accumulated directly."""

from __future__ import annotations

NOT_FOLLOWED = "torchjac cannot follow it"
"""How the reason begins where the reading itself failed: a fault of torchjac's, which is to be mended."""


class CannotAccumulateError(Exception):
    """Raised while a program is built; a plan then uses colors. ``op`` and the user's ``line`` say where it ended."""

    def __init__(self, op: str, why: str, line: str = "") -> None:
        super().__init__(f"{op}{f' at {line}' if line else ''}: {why}")
        self.op, self.why, self.line = op, why, line

    def at(self, line: str) -> CannotAccumulateError:
        """Return the error with ``line``, where it names none yet."""
        return self if self.line else CannotAccumulateError(self.op, self.why, line)
