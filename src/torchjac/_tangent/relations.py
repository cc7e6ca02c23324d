"""The few ways in which the output of an op, linear in v, can depend on an operand.

A rule looks at one call and answers with relations; it never touches index sets or coefficients. A *reading* knows
how to carry what it keeps through each kind of relation. That is why an op family is written once and serves every
reading. All relations of one output are united.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch

Ids = torch.Tensor
"""A number for each element of a tensor, int64 on the CPU; 0 for an element that depends on nothing."""

Of = Callable[[torch.Tensor], Ids]
"""A function that returns the ids of an operand."""


@dataclass(frozen=True)
class Pointwise:
    """out[i] depends on operand[i], after broadcasting. Example: ``mul``, ``where``, ``copy_``."""

    operand: torch.Tensor


@dataclass(frozen=True)
class Move:
    """out[i] is operand[j(i)], or nothing; ``run(of)`` moves ``of(operand)``. Example: ``roll``, ``cat``."""

    run: Callable[[Of], Ids]


@dataclass(frozen=True)
class Window:
    """Along one dimension, out[o] depends on in[p] for every p in ``places[starts[o]:starts[o + 1]]``.

    A boolean matrix (out_len, in_len) in CSR. ``starts`` (out_len + 1,), ``places`` (entries,), both int64.
    """

    starts: torch.Tensor
    places: torch.Tensor

    @classmethod
    def of_positions(cls, positions: torch.Tensor) -> Window:
        """Return the Window of (out_len, width) places, -1 for none."""
        kept = positions >= 0
        return cls(_starts(kept.sum(1)), positions[kept])

    @classmethod
    def of_pairs(cls, out: torch.Tensor, places: torch.Tensor, out_len: int) -> Window:
        """Return the Window of pairs: ``out[k]`` depends on ``places[k]``."""
        order = torch.argsort(out, stable=True)
        return cls(_starts(torch.bincount(out, minlength=out_len)), places[order])

    @property
    def out(self) -> torch.Tensor:
        """The out index of every entry, in order."""
        counts = self.starts.diff()
        return torch.repeat_interleave(torch.arange(counts.numel()), counts)

    def transposed(self, in_len: int) -> Window:
        """Return the transposed dependence, (in_len, out_len)."""
        return Window.of_pairs(self.places, self.out, in_len)


def _starts(counts: torch.Tensor) -> torch.Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


Along = Literal["same", "all", "prefix", "suffix"] | Window


@dataclass(frozen=True)
class Mix:
    """A product over dimensions: each dimension of the operand is kept, mixed along itself, or reduced away.

    ``view`` is the shape under which the operand is seen. ``dims[k]`` names the dimension of that view that becomes
    dimension k of the output, None for a dimension that is new (every place of it depends on the same). Dimensions of
    the view that no output dimension names are reduced. ``along`` says how a dimension mixes; "same" if not listed.

    Before/after, for ``mm(t, P)`` with t (i, k), P (k, j): ``Mix(t, dims=(0, None))`` — k reduced, j new.
    """

    operand: torch.Tensor
    dims: tuple[int | None, ...]
    along: dict[int, Along] = field(default_factory=dict)
    view: tuple[int, ...] | None = None
    out_view: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Scatter:
    """out[target[i]] collects operand[i]; targets: flat output positions, of the operand's shape, -1 for none.

    ``replaces``: what the base held at the targets is overwritten; the base comes from a relation before this one.
    """

    operand: torch.Tensor
    target: torch.Tensor
    replaces: bool = False


@dataclass(frozen=True)
class Everything:
    """Every element of the output depends on all that any element of the operand depends on."""

    operand: torch.Tensor


Relation = Pointwise | Move | Mix | Scatter | Everything
Relations = list[Relation]
