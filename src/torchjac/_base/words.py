"""The words that options take, with their meaning, and types that many modules use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .errors import OptionError

Mode = Literal["auto", "forward", "reverse", "bidirectional", "accumulate"]
"""The way to the Jacobian: by JVPs (forward), VJPs (reverse), some of both, by no products at all but a program for the
nonzeros themselves (accumulate), or by the cheapest of these (auto)."""

Direction = Literal["forward", "reverse"]
"""The kind of products: J s for a column of seeds (JVPs, forward), or s^T J for a row of them (VJPs, reverse)."""

Partition = Literal["column", "row", "bidirectional", "symmetric"]
"""The lines that share a color: columns (JVPs), rows (VJPs), both, or both at once in a symmetric matrix."""

Order = Literal[
    "auto",
    "natural",
    "random",
    "breadth-first",
    "largest-first",
    "smallest-last",
    "incidence-degree",
    "dynamic-largest-first",
    "dsatur",
]
"""The order in which a greedy coloring visits the vertices; auto tries several and improves the best."""

Recovery = Literal["direct", "substitution"]
"""The recovery of values from symmetric products: each is read off (direct), or solved for after others."""

Uplo = Literal["full", "lower", "upper"]
"""The stored entries of a symmetric matrix: all, or one triangle with the diagonal."""

SymmetricRecovery = Literal["auto", "direct", "substitution"]
"""The recovery of a Hessian's values: each is read off, solved for after others, or the faster of these."""

Check = Literal["first", "always", False]
"""The calls in which a plan compares itself with an independent product: the first, every one, or none."""

Scope = Literal["global", "local"]
"""Whether a pattern holds for every x, or only for inputs that take the same branches as the traced one."""

Colors = npt.NDArray[np.int32]
"""The color of each column or row: the number of the product that it shares, -1 for none."""

UserFunction = Callable[..., Any]
"""A function to differentiate: it maps tensors, or trees of tensors, to tensors or trees of tensors."""

Args = tuple[Any, ...]
"""The arguments of a call: tensors, trees of tensors, and whatever else the function takes."""

OpArgument: TypeAlias = Any
"""An argument of an op of PyTorch: a tensor, a number, a word, None, or a list of these, as its schema says."""

Kwargs = dict[str, OpArgument]
"""The keyword arguments of an op."""

OpResult: TypeAlias = Any
"""The result of an op of PyTorch: a tensor, a number, None, or a list of these, as its schema says."""


def choose(name: str, value: object, options: object) -> None:
    """Raise OptionError unless ``value`` is one of the words of the Literal ``options``."""
    words = get_args(options)
    if not any(value is word or (isinstance(value, str) and value == word) for word in words):
        listed = ", ".join(repr(word) for word in words)
        raise OptionError(
            f"{name}={value!r} is not an option", expected=f"one of {listed}", instead=f"{name}={words[0]!r}"
        )
