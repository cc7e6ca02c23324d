"""Where the entries of a pattern come from, in words: ops, and the lines of the user's code that called them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Note:
    """What made a pattern larger, or local: an op, why, the line of the user's code that called it, and the cost.

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
    """One op between an input and an output, and the line that called it."""

    op: str
    line: str

    def __str__(self) -> str:
        return f"{self.op:<16} {self.line}"


@dataclass(frozen=True)
class Cost:
    """How many entries the op of one line added beyond those of its operands."""

    line: str
    op: str
    nonzeros: int

    def __str__(self) -> str:
        return f"{self.nonzeros:>12,} entries  {self.op:<16} {self.line}"


class Answers(Protocol):
    """Who can run the function again to answer where entries come from."""

    def why(self, i: int, j: int) -> list[Step]: ...

    def costs(self) -> list[Cost]: ...
