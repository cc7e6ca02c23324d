"""What regions of a program have in common: the names of ops, and compiling each region by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

from ..._tangent.call import base_name

# So many values are gathered in a region of their own: fused with it, Inductor would compute every product that a value
# is read from at the place where it is read, one by one. Fewer are not worth a region, which takes 30 us a call.
SMALL = 10_000

CompileOptions = dict[str, Any]
"""Keyword arguments of ``torch.compile``."""


def name_of(node: Node) -> str:
    """The family of the op that a node calls; of other nodes their kind."""
    if isinstance(node.target, torch._ops.OpOverload):
        return base_name(node.target)
    return str(getattr(node.target, "__name__", node.op))


def is_small_power(node: Node) -> bool:
    """Whether a call is a product or two."""
    return name_of(node) == "pow" and node.args[1] in (1, 2, 3)


def compile_parts(graph: GraphModule, part_of: Callable[[Node], int], options: CompileOptions) -> GraphModule:
    """The program with each of its parts compiled."""
    from torch.fx.passes.split_module import split_module

    parts: GraphModule = split_module(graph, graph, part_of)
    for name, part in list(parts.named_children()):
        if isinstance(part, GraphModule):
            setattr(parts, name, torch.compile(part, fullgraph=True, dynamic=False, **options))
    return parts
