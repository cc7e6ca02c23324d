"""The signature of a call, which one plan holds for, and the arguments that may change a pattern."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .._base.errors import SignatureError
from .._base.words import Args
from .leaves import with_paths

LeafSignature = tuple[torch.Size, torch.dtype, torch.device] | type
"""Of a tensor all but its values; of anything else its type."""


def version_of(t: torch.Tensor) -> int:
    """The number of in-place writes to a tensor; -1 for an inference tensor, which does not count them."""
    return -1 if t.is_inference() else t._version


class Choices:
    """Arguments that can change a pattern: index tensors, masks, integers, strings. Floats and their tensors cannot.

    Floating point tensors are among them where ``floats``, because f computes masks or indices from them. Floats are
    among them where ``numbers``, because a program holds them fixed.
    """

    def __init__(self, leaves: Sequence[object], floats: bool = False, numbers: bool = False) -> None:
        plain = [a for a in leaves if not isinstance(a, torch.Tensor) and (numbers or not isinstance(a, float))]
        self.plain = [a.copy() if isinstance(a, np.ndarray) else a for a in plain]
        self.tensors = [a for a in leaves if isinstance(a, torch.Tensor) and (floats or not a.is_floating_point())]
        self.versions = [version_of(t) for t in self.tensors]

    def same(self, other: Choices) -> bool:
        """Whether all these arguments are equal to the others; a tensor that was written to since then is not."""
        return (
            self.versions == [version_of(t) for t in self.tensors]
            and len(self.plain) == len(other.plain)
            and all(map(_equal, self.plain, other.plain))
            and all(a is b or torch.equal(a, b) for a, b in zip(self.tensors, other.tensors, strict=True))
        )


def _equal(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other)
    return one is other or (type(one) is type(other) and bool(one == other))


def signature_of(leaf: object) -> LeafSignature:
    """The part of one argument that must be the same in every call of a plan."""
    return (leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, torch.Tensor) else type(leaf)


def signature_error(paths: list[str], planned: list[LeafSignature], args: Args) -> SignatureError:
    """The error for arguments of another signature; its text is a table of both, argument by argument."""

    def text(signature: LeafSignature) -> str:
        if not isinstance(signature, tuple):
            return str(signature.__name__)
        shape, dtype, device = signature
        return f"{str(dtype).removeprefix('torch.')}{list(shape)} on {device}"

    before = dict(zip(paths, map(text, planned), strict=True))
    now = {f"args{path}": text(signature_of(leaf)) for path, leaf in with_paths(args)}
    names = list(dict.fromkeys([*before, *now]))
    width = max(len(name) for name in names)
    rows = [
        f"\n    {name:<{width}}  planned {before.get(name, 'nothing'):<28} called with {now.get(name, 'nothing')}"
        + ("" if before.get(name) == now.get(name) else "   <--")
        for name in names
    ]
    return SignatureError(
        "the arguments are not those the plan was made for:" + "".join(rows),
        why="pattern, coloring and seeds hold for one signature",
        instead="plan_jacobian(f, *args) again with these arguments",
    )
