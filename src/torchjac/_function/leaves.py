"""The leaves of a tree of tensors: their paths, and the parts of the ravelled vector that they fill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils._pytree import PyTree

from .._base.errors import InputError, OutputError


@dataclass(frozen=True)
class Leaf:
    """One tensor of a tree: its path, shape, dtype and device, and the part of the ravelled vector that it fills."""

    path: str
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    start: int

    @property
    def numel(self) -> int:
        return self.shape.numel()

    @property
    def stop(self) -> int:
        return self.start + self.shape.numel()

    def __str__(self) -> str:
        return f"{self.path}: {describe(self)}"


def describe(value: object) -> str:
    """A text for error messages: ``float64[3, 4] on cpu`` for a tensor, type and value of anything else."""
    if not isinstance(value, (torch.Tensor, Leaf)):
        return f"{type(value).__name__} {value!r}"[:60]
    return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)} on {value.device}"


def with_paths(tree: PyTree) -> list[tuple[str, object]]:
    """The leaves of a tree, each with the path to it as a user would write it: ``[0]['a']``."""
    if isinstance(tree, torch.Tensor):
        return [("", tree)]
    try:
        return [(pytree.keystr(path), leaf) for path, leaf in pytree.tree_flatten_with_path(tree)[0]]
    except ValueError:  # a node that was registered without names for its children
        return [(f"[leaf {i}]", leaf) for i, leaf in enumerate(pytree.tree_leaves(tree))]


def split_aux(out: PyTree) -> tuple[PyTree, PyTree]:
    """The pair (output, aux) that a function with ``has_aux=True`` returned; OutputError where it is no pair."""
    if not (isinstance(out, tuple) and len(out) == 2):
        raise OutputError(
            f"f returned {type(out).__name__}",
            expected="a pair (output, aux), because has_aux=True",
            instead="return y, aux",
        )
    return out[0], out[1]


def place(leaves: Sequence[Leaf], position: int) -> str:
    """The name of one element of the ravelled vector, such as ``args[0][1, 2]``: its leaf and its index there."""
    for leaf in leaves:
        if leaf.start <= position < leaf.stop:
            at = np.unravel_index(position - leaf.start, leaf.shape) if len(leaf.shape) else ()
            return leaf.path + (f"[{', '.join(str(int(p)) for p in at)}]" if leaf.shape else "")
    raise AssertionError(f"position {position} is in no leaf")


def input_leaves(trees: Sequence[PyTree], positions: Sequence[int]) -> list[Leaf]:
    """The leaves of the differentiated arguments, end to end; InputError for what cannot be differentiated."""
    leaves: list[Leaf] = []
    for tree, position in zip(trees, positions, strict=True):
        for path, value in with_paths(tree):
            name = f"args[{position}]{path}"
            if not isinstance(value, torch.Tensor):
                raise InputError(
                    f"{name} is {describe(value)}",
                    expected="a tensor",
                    why="only tensors can be differentiated with respect to",
                    instead=_instead_of(value),
                )
            if not (value.is_floating_point() or value.is_complex()):
                raise InputError(
                    f"{name} is {describe(value)}",
                    expected="a floating point tensor",
                    why=f"derivatives with respect to {str(value.dtype).removeprefix('torch.')} do not exist",
                    instead="x.double(), or leave this argument out of argnums",
                )
            if value.layout is not torch.strided:
                raise InputError(
                    f"{name} is a tensor of layout {value.layout}",
                    expected="a strided tensor",
                    why="which entries of a sparse tensor count as inputs is not said",
                    instead="differentiate with respect to its values(), and build the sparse tensor inside f",
                )
            leaves.append(Leaf(name, value.shape, value.dtype, value.device, leaves[-1].stop if leaves else 0))
    if not leaves or leaves[-1].stop == 0:
        what = f"{leaves[0]}" if leaves else f"args[{positions[0]}] holds no tensors"
        raise InputError(
            f"the input is empty ({what})", expected="at least one element", why="there is nothing to differentiate by"
        )
    return leaves


def _instead_of(value: object) -> str:
    if isinstance(value, torch.nn.Module):
        return "f, params = torchjac.functional(module), and params as the argument"
    if is_dataclass(value):
        return f"torch.export.register_dataclass({type(value).__name__}), once, before this call"
    if isinstance(value, (int, float)):
        return f"torch.tensor({value!r}, dtype=torch.float64), or leave this argument out of argnums"
    return "leave this argument out of argnums"


def output_leaves(out: PyTree) -> list[Leaf]:
    """The leaves of a function's output, end to end; OutputError for what has no derivative."""
    leaves: list[Leaf] = []
    for path, value in with_paths(out):
        name = f"f(...){path}"
        if not isinstance(value, torch.Tensor):
            raise OutputError(
                f"{name} is {describe(value)}",
                expected="a tensor, or a dict, list or tuple of tensors",
                why="only tensors have derivatives",
                instead=f"torch.export.register_dataclass({type(value).__name__}), once"
                if is_dataclass(value)
                else "the tensor itself (no .item(), no .numpy()), or return y, extras with has_aux=True",
            )
        if not (value.is_floating_point() or value.is_complex()):
            raise OutputError(
                f"{name} is {describe(value)}",
                expected="a floating point tensor",
                why="integers and booleans have no derivative (forward mode would silently give zeros)",
                instead="return it beside the output and pass has_aux=True",
            )
        if value.layout is not torch.strided:
            raise OutputError(
                f"{name} is a tensor of layout {value.layout}", expected="a strided tensor", instead="y.to_dense()"
            )
        leaves.append(Leaf(name, value.shape, value.dtype, value.device, leaves[-1].stop if leaves else 0))
    if not leaves:
        raise OutputError(f"f returned {out!r}, which holds no tensors", expected="at least one tensor")
    return leaves
