"""The report of a check: what is wrong with a Jacobian, entry by entry, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WrongEntry:
    """A wrong entry, by the places of the output and the input, and as (row, column) of the ravelled matrix."""

    output: str
    input: str
    row: int
    column: int
    got: float
    expected: float

    def __str__(self) -> str:
        return f"d {self.output} / d {self.input} is {self.got:.6g}, expected {self.expected:.6g}"


@dataclass(frozen=True)
class JacobianReport:
    """The result of ``check_jacobian``; it counts as true where the Jacobian is right.

    Attributes
    ----------
    right: whether it is.
    shape: (m, n).
    error: the largest error of a random product, relative to the sizes of what was added.
    rows, columns: how many are wrong, of those where it can be seen above rounding.
    entries: the worst ones.
    cause: what explains all that is wrong, if something does.
    """

    right: bool
    shape: tuple[int, int]
    error: float
    rows: int = 0
    columns: int = 0
    entries: tuple[WrongEntry, ...] = ()
    cause: str = ""

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        m, n = self.shape
        if self.right:
            return f"JacobianReport(right, {m} x {n}, relative error {self.error:.1g})"
        lines = [f"JacobianReport(wrong, {m} x {n}, in {self.rows} rows and {self.columns} columns)"]
        lines += [f"  {entry}" for entry in self.entries]
        return "\n".join([*lines, *([f"  likely cause: {self.cause}"] if self.cause else [])])
