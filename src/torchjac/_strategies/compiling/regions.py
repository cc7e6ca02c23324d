"""Captured products, compiled in up to three regions: the ops of f alone, the products of each color, the gather.

Inductor would fuse ops that depend on x alone into the loop over the colors, and evaluate every sine and exponential
once a color: where f has such ops, they are compiled as a region of their own. So is the gather at the end, where it is
large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from .parts import SMALL, CompileOptions, compile_parts, is_small_power, name_of

# Ops that cost more than the memory traffic of writing their result once.
_EXPENSIVE = frozenset(
    "sin cos tan asin acos atan atan2 sinh cosh tanh exp exp2 expm1 log log1p log2 log10 pow sqrt rsqrt erf sigmoid "
    "lgamma digamma mm bmm addmm baddbmm convolution".split()
)

_SEEDS = "_seeds_"


def compile_products(
    graph: GraphModule, constants: Sequence[torch.Tensor], options: CompileOptions
) -> tuple[Callable[..., torch.Tensor], int]:
    """The compiled program and its number of regions; ``constants``: the tensors that the seeds are made of."""
    _fold_seeds(graph, constants)
    apart = _once(graph, constants)
    if not any(map(_is_expensive, apart)):
        apart = set()
    gathers = _recovery(graph)
    if not apart and not gathers:
        return torch.compile(graph, fullgraph=True, dynamic=False, **options), 1
    parts = compile_parts(graph, lambda node: 2 if node in gathers else int(node not in apart), options)
    return parts, 1 + bool(apart) + bool(gathers)


def _recovery(graph: GraphModule) -> set[Node]:
    """The last node, if it gathers many values from the products; otherwise an empty set."""
    (last,) = graph.graph.output_node().args
    if not isinstance(last, Node) or last.target is not torch.ops.aten.index_select.default:
        return set()
    index = last.args[2]
    if not isinstance(index, Node) or index.op != "get_attr":
        return set()
    return {last} if getattr(graph, str(index.target)).numel() > SMALL else set()


def _fold_seeds(graph: GraphModule, constants: Sequence[torch.Tensor]) -> None:
    """Replace the seeds by constants ``_seeds_k``, computed here once instead of from the colors in every call."""
    known: dict[Node, torch.Tensor] = {}
    seeds: list[Node] = []
    for node in graph.graph.nodes:
        inputs = node.all_input_nodes
        if node.op == "get_attr":
            if _is_one_of(graph, node, constants):
                known[node] = getattr(graph, str(node.target))
        elif node.op == "call_function" and all(before in known for before in inputs):
            args, kwargs = map_arg((node.args, node.kwargs), lambda before: known[before])
            if inputs or node.target is torch.ops.aten.arange.start:
                known[node] = node.target(*args, **kwargs)
            if inputs and any(after not in known for after in node.users):
                seeds.append(node)
    for number, node in enumerate(seeds):
        if any(after not in known for after in node.users):
            graph.register_buffer(f"{_SEEDS}{number}", known[node])
            with graph.graph.inserting_before(node):
                node.replace_all_uses_with(graph.graph.get_attr(f"{_SEEDS}{number}"))
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _once(graph: GraphModule, constants: Sequence[torch.Tensor]) -> set[Node]:
    """The nodes that do not depend on the seeds: f's own part, the same for every color."""
    seeded: set[Node] = set()
    for node in graph.graph.nodes:
        own = node.op == "get_attr" and (str(node.target).startswith(_SEEDS) or _is_one_of(graph, node, constants))
        if own or any(before in seeded for before in node.all_input_nodes):
            seeded.add(node)
    return {node for node in graph.graph.nodes if node.op == "call_function" and node not in seeded}


def _is_one_of(graph: GraphModule, node: Node, constants: Sequence[torch.Tensor]) -> bool:
    value = getattr(graph, str(node.target))
    return isinstance(value, torch.Tensor) and any(value.data_ptr() == c.data_ptr() for c in constants)


def _is_expensive(node: Node) -> bool:
    return name_of(node) in _EXPENSIVE and not is_small_power(node)
