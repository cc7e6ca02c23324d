"""The base of regions and stages: names of ops, and a function that compiles each part of a program by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..._tangent.call import base_name

# More values than this are gathered in a region of their own: fused with the products, Inductor would compute each
# product anew at every place where it is read. Fewer values are not worth a region, which takes 30 us a call.
SMALL = 10_000

CompileOptions = dict[str, Any]
"""Keyword arguments of ``torch.compile``."""


def name_of(node: Node) -> str:
    """The name of the op that a node calls, without its overload; for other nodes their kind."""
    if isinstance(node.target, torch._ops.OpOverload):
        return base_name(node.target)
    return str(getattr(node.target, "__name__", node.op))


def is_small_power(node: Node) -> bool:
    """Whether a call is a power that takes at most two multiplications."""
    return name_of(node) == "pow" and node.args[1] in (1, 2, 3)


def compile_parts(graph: GraphModule, part_of: Callable[[Node], int], options: CompileOptions) -> GraphModule:
    """The program with each of its parts compiled."""
    from torch.fx.passes.split_module import split_module

    parts: GraphModule = split_module(graph, graph, part_of)
    for name, part in list(parts.named_children()):
        if isinstance(part, GraphModule):
            setattr(parts, name, torch.compile(part, fullgraph=True, dynamic=False, **options))
    return parts
