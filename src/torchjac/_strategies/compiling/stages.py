"""The program of direct accumulation, compiled stage by stage, with columns interleaved so that it vectorises."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence

import torch
from torch.fx import Graph, GraphModule, Interpreter, Node

from ..._tangent.trace import is_view
from .interleaving import interleave
from .parts import SMALL, CompileOptions, compile_parts, name_of

_MOST_STAGES = 8  # each takes a second to compile

# Options of Inductor: a result that is read twice is computed once (_ONCE); all ops in one vectorised loop (_ONE_LOOP).
_ONCE = {"realize_opcount_threshold": 1, "realize_reads_threshold": 1}
_ONE_LOOP = {
    "max_fusion_size": 1024,
    "cpp.max_horizontal_fusion_size": 1024,
    "cpp.enable_tiling_heuristics": False,
    "cpp.enable_loop_tail_vec": False,  # a few elements at the end, for half again as much code
}
_MANY = range(100, 1000)  # numbers of ops for one loop; beyond, it saves no time to compile, and parts run slower

_SHIFTS = frozenset("slice_backward select_backward constant_pad_nd roll slice_scatter select_scatter flip".split())


def compile_program(
    graph: GraphModule, tensors: Sequence[torch.Tensor], options: CompileOptions
) -> tuple[Callable[..., torch.Tensor], int]:
    """The program with each stage compiled by itself, and its number of stages.

    With very many stages, as in a simulation of many steps, Inductor is told instead to write each result to memory
    once. In a program of many ops it would trace and generate each op again for every reader; there, one loop for all
    ops keeps results out of memory, and is vectorised even though it reads rows.
    """
    graph = _prepared(graph, tensors)
    stages = _stages(graph)
    named = {node: int(node.meta.get("stage", 0)) for node in stages}
    last, on_cpu = max(stages.values(), default=0), all(t.device.type == "cpu" for t in tensors)
    if last >= _MOST_STAGES:
        stages, last = named, max(named.values())
        options = options or {"options": _ONCE}
    elif len(stages) in _MANY and on_cpu and last == max(named.values()):
        options = options or {"options": _ONCE | _ONE_LOOP}
    if not last:
        return torch.compile(graph, fullgraph=True, dynamic=False, **options), 1
    return compile_parts(graph, stages.__getitem__, options), last + 1


def _prepared(program: GraphModule, tensors: Sequence[torch.Tensor]) -> GraphModule:
    """A copy of the program for the compiler, in which ``node.meta["like"]`` shows every result."""
    graph = Graph()
    graph.output(graph.graph_copy(program.graph, {}))
    copy = GraphModule(program, graph)
    with torch.no_grad():
        _Noting(copy).run(*tensors)
        interleave(graph)
        _Noting(copy).run(*tensors)
    copy.recompile()
    return copy


class _Noting(Interpreter):
    """An interpreter that notes the shape and type of each node's result, as a tensor without memory of its own."""

    def run_node(self, n: Node) -> object:
        out: object = super().run_node(n)
        n.meta["like"] = out.new_empty(()).expand(out.shape) if isinstance(out, torch.Tensor) else None
        return out


def _stages(graph: GraphModule) -> dict[Node, int]:
    """The number of the stage of each call.

    A stage of its own begins where the program says so, and where large computed tensors are shifted against each
    other: Inductor would compute them again for every shift.
    """
    stages: dict[Node, int] = {}
    computed: set[Node] = set()  # in their own stage, and not merely moved
    for node in graph.graph.nodes:
        if node.op == "call_function":
            before = [n for n in node.all_input_nodes if n in stages]
            shifted = {n for n in _shifted(node) if n in computed and _is_large(n)}
            apart = {n for n in before if n.meta.get("stage", 0) < node.meta.get("stage", 0)}
            stages[node] = max((stages[n] + (n in shifted | apart) for n in before), default=0)
            if not _is_move(node) or any(n in computed and stages[n] == stages[node] for n in before):
                computed.add(node)
    return stages


def _shifted(node: Node) -> Sequence[Node]:
    """The operands that a call reads at shifted places."""
    if name_of(node) not in _SHIFTS:
        return []
    return node.all_input_nodes[1:] if name_of(node).endswith("scatter") else node.all_input_nodes


def _is_move(node: Node) -> bool:
    """Whether a call only moves elements and computes nothing."""
    return node.target is operator.getitem or name_of(node) in _SHIFTS or is_view(node.target)


def _is_large(node: Node) -> bool:
    return bool(node.meta["like"].numel() > SMALL)
