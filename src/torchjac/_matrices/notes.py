"""Explanations of the entries of a pattern: the ops they come from, and the lines of the user's code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Note:
    """A reason why a pattern is larger than need be, or local: the op, its line in the user's code, and the cost.

    ``nonzeros`` are the entries that the results of the op have beyond those of its largest operand.
    """

    op: str
    reason: str
    line: str = ""
    nonzeros: int = 0

    def __str__(self) -> str:
        cost = f", {self.nonzeros:,} entries added" if self.nonzeros else ""
        return f"{self.op}: {self.reason}{cost}" + (f" ({self.line})" if self.line else "")


@dataclass(frozen=True)
class Step:
    """One op on the way from an input to an output, and the line that called it."""

    op: str
    line: str

    def __str__(self) -> str:
        return f"{self.op:<16} {self.line}"


@dataclass(frozen=True)
class Cost:
    """The number of entries that the op of one line added to those of its operands."""

    line: str
    op: str
    nonzeros: int

    def __str__(self) -> str:
        return f"{self.nonzeros:>12,} entries  {self.op:<16} {self.line}"


class Provenance(Protocol):
    """Explains where entries come from, by running the function again."""

    def why(self, i: int, j: int) -> list[Step]: ...

    def costs(self) -> list[Cost]: ...
