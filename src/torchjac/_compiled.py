"""``compile=True``: products and decompression captured as one program of tensor ops, and compiled.

The program is captured with ``make_fx`` (sturdier than tracing forward mode through Dynamo) and compiled by Inductor
for one signature; it serves every x of it. Inductor would fold what depends on x alone into the loop over the colors,
and evaluate every sine and exponential once a color: where f has such ops, its own part is compiled as a region apart.
So is the gather at the end, where it is large.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.utils import _pytree as pytree

from ._errors import TorchjacWarning
from ._tangent.trace import is_view

Values = Callable[[tuple[Any, ...]], torch.Tensor]

# Ops that cost more than the memory traffic of writing their result once.
_EXPENSIVE = frozenset(
    "sin cos tan asin acos atan atan2 sinh cosh tanh exp exp2 expm1 log log1p log2 log10 pow sqrt rsqrt erf sigmoid "
    "lgamma digamma mm bmm addmm baddbmm convolution".split()
)

# So many values are gathered in a region of their own: fused with it, Inductor would compute every product that a value
# is read from at the place where it is read, one by one. Fewer are not worth a region, which takes 30 us a call.
_SMALL = 10_000

_MOST_STAGES = 8  # each takes a second to compile

_SEEDS = "_seeds_"

# Options of Inductor: what is read twice is computed once; and one vectorised loop for as many ops as there are.
_ONCE = {"realize_opcount_threshold": 1, "realize_reads_threshold": 1}
_ONE_LOOP = {
    "max_fusion_size": 1024,
    "cpp.max_horizontal_fusion_size": 1024,
    "cpp.enable_tiling_heuristics": False,
    "cpp.enable_loop_tail_vec": False,  # a few elements at the end, for half again as much code
}
_MANY = range(100, 1000)  # ops; beyond, one loop is too long to compile faster


class Compiled:
    """``values`` compiled for arguments like ``args``; runs eagerly, and says why, where it cannot be compiled.

    ``constants`` are the tensors that the seeds are made of: what depends on them runs once a color. ``graph`` is the
    program where there is one already.
    """

    def __init__(
        self,
        values: Values,
        args: tuple[Any, ...],
        constants: Sequence[torch.Tensor],
        options: dict[str, Any],
        graph: torch.fx.GraphModule | None = None,
    ) -> None:
        self._values = values
        self.differentiable = graph is not None  # a program of ordinary ops; a captured one has lost its derivatives
        self._program: Callable[..., torch.Tensor] | None = None
        self.regions = 0
        tensors, self._spec, self._fixed = _split(args)
        try:
            if graph is None:
                self._program, self.regions = _compile(self._capture(tensors), constants, options)
            else:
                self._program, self.regions = _compile_stages(graph, tensors, options)
            with torch.no_grad(), _one_tracing():
                self._program(*tensors)  # compiles
        except RuntimeError as error:
            self._program = None
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(f"compile=True runs eagerly, because {reason}", TorchjacWarning, stacklevel=5)

    def agrees(self, args: tuple[Any, ...], values: torch.Tensor) -> bool:
        """Whether the program gives ``values`` at ``args``, to the square root of the precision; else it is dropped."""
        if self._program is None:
            return False
        got, scale = self(args), float(values.detach().abs().nan_to_num(0, 0, 0).max()) if values.numel() else 0.0
        close = (got - values).abs() <= scale * torch.finfo(values.dtype).eps ** 0.5
        if bool((close | (got == values) | (got.isnan() & values.isnan())).all()):
            return True
        self._program, self.regions = None, 0
        warnings.warn("compile=True runs eagerly, because compiled values are not the eager ones", TorchjacWarning, 5)
        return False

    def __call__(self, args: tuple[Any, ...]) -> torch.Tensor:
        """The values at ``args``: (nnz,); with a graph only if ``differentiable``; eager where it was not compiled."""
        if self._program is None:
            return self._values(args)
        if self.differentiable:
            return self._program(*(leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, torch.Tensor)))
        with torch.no_grad():
            return self._program(*_split(args)[0])

    def _capture(self, tensors: list[torch.Tensor]) -> torch.fx.GraphModule:
        from torch.fx.experimental.proxy_tensor import make_fx

        def program(*inputs: torch.Tensor) -> torch.Tensor:
            free = iter(inputs)
            leaves: list[Any] = [next(free) if leaf is None else leaf[0] for leaf in self._fixed]
            return self._values(pytree.tree_unflatten(leaves, self._spec))

        with torch.no_grad():
            graph: torch.fx.GraphModule = make_fx(program)(*tensors)
        graph.graph.eliminate_dead_code()
        _with_memory(graph)
        _own_memory(graph)
        for node in graph.graph.nodes:
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                raise RuntimeError(f"f draws random numbers ({node.target}), which compiled code draws otherwise")
        graph.recompile()
        return graph


def _with_memory(graph: torch.fx.GraphModule) -> None:
    """Zeros that are in memory, for the tangents of constants: PyTorch keeps those without, and Inductor reads them."""
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten._efficientzerotensor.default):
        node.target = torch.ops.aten.zeros.default


def _own_memory(graph: torch.fx.GraphModule) -> None:
    """Copy what an index_put starts from, where it is an expanded tensor: Inductor writes to all its copies at once."""
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.index_put.default):
        start = node.args[0]
        if isinstance(start, torch.fx.Node) and start.target is torch.ops.aten.expand.default:
            with graph.graph.inserting_before(node):
                contiguous: dict[str, Any] = {"memory_format": torch.contiguous_format}
                copy = graph.graph.call_function(torch.ops.aten.clone.default, (start,), contiguous)
            node.replace_input_with(start, copy)


def _split(args: tuple[Any, ...]) -> tuple[list[torch.Tensor], pytree.TreeSpec, list[tuple[Any] | None]]:
    """(tensor leaves, tree, other leaves wrapped in 1-tuples with None where a tensor goes)."""
    flat, spec = pytree.tree_flatten(args)
    tensors = [leaf.detach() for leaf in flat if isinstance(leaf, torch.Tensor)]
    return tensors, spec, [None if isinstance(leaf, torch.Tensor) else (leaf,) for leaf in flat]


def _compile(
    graph: torch.fx.GraphModule, constants: Sequence[torch.Tensor], options: dict[str, Any]
) -> tuple[Callable[..., torch.Tensor], int]:
    """The compiled program, and of how many regions it is."""
    _fold_seeds(graph, constants)
    apart = _once(graph, constants)
    if not any(map(_is_expensive, apart)):
        apart = set()
    gathers = _recovery(graph)
    if not apart and not gathers:
        return torch.compile(graph, fullgraph=True, dynamic=False, **options), 1
    parts = _compile_parts(graph, lambda node: 2 if node in gathers else int(node not in apart), options)
    return parts, 1 + bool(apart) + bool(gathers)


def _compile_stages(
    graph: torch.fx.GraphModule, tensors: Sequence[torch.Tensor], options: dict[str, Any]
) -> tuple[Callable[..., torch.Tensor], int]:
    """Each stage of the program compiled by itself.

    Of very many stages, as in a simulation of many steps, Inductor is told instead to write whatever it computes to
    memory once. In a program of many ops it would trace and generate each again for everyone that reads it; there, one
    loop for all of them keeps what is computed out of memory, and is vectorised though it reads rows.
    """
    stages = _stages(graph, tensors)
    named = {node: int(node.meta.get("stage", 0)) for node in stages}
    last, on_cpu = max(stages.values(), default=0), all(t.device.type == "cpu" for t in tensors)
    if last >= _MOST_STAGES:
        stages, last = named, max(named.values())
        options = options or {"options": _ONCE}
    elif len(stages) in _MANY and on_cpu and last == max(named.values()):
        options = options or {"options": _ONCE | _ONE_LOOP}
    if not last:
        return torch.compile(graph, fullgraph=True, dynamic=False, **options), 1
    return _compile_parts(graph, stages.__getitem__, options), last + 1


def _stages(graph: torch.fx.GraphModule, tensors: Sequence[torch.Tensor]) -> dict[torch.fx.Node, int]:
    """For each call, after how many others its stage comes.

    A stage of its own begins where the program says so, and where large computed tensors are shifted against each
    other: Inductor would compute them again for every shift.
    """
    from torch.fx.passes.shape_prop import ShapeProp

    with torch.no_grad():
        ShapeProp(graph).propagate(*tensors)
    stages: dict[torch.fx.Node, int] = {}
    computed: set[torch.fx.Node] = set()  # in their own stage, and not merely moved
    for node in graph.graph.nodes:
        if node.op == "call_function":
            before = [n for n in node.all_input_nodes if n in stages]
            shifted = {n for n in before if _name(node) in _SHIFTS and n in computed and _is_large(n)}
            apart = {n for n in before if n.meta.get("stage", 0) < node.meta.get("stage", 0)}
            stages[node] = max((stages[n] + (n in shifted | apart) for n in before), default=0)
            if not _is_move(node) or any(n in computed and stages[n] == stages[node] for n in before):
                computed.add(node)
    return stages


def _one_tracing() -> AbstractContextManager[Any]:
    """Inside, Dynamo takes floats for the constants they are, instead of tracing a second time once that is found."""
    import torch._dynamo

    patch: AbstractContextManager[Any] = torch._dynamo.config.patch(specialize_float=True)
    return patch


_SHIFTS = frozenset("slice_backward select_backward constant_pad_nd roll slice_scatter select_scatter flip".split())


def _is_move(node: torch.fx.Node) -> bool:
    """Whether a call only moves what it is given."""
    return node.target is operator.getitem or _name(node) in _SHIFTS or is_view(node.target)


def _is_large(node: torch.fx.Node) -> bool:
    return bool(node.meta["tensor_meta"].shape.numel() > _SMALL)


def _name(node: torch.fx.Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return "" if schema is None else str(schema.name).split("::")[1]


def _compile_parts(
    graph: torch.fx.GraphModule, part_of: Callable[[torch.fx.Node], int], options: dict[str, Any]
) -> torch.fx.GraphModule:
    from torch.fx.passes.split_module import split_module

    parts: torch.fx.GraphModule = split_module(graph, graph, part_of)
    for name, part in list(parts.named_children()):
        if isinstance(part, torch.fx.GraphModule):
            setattr(parts, name, torch.compile(part, fullgraph=True, dynamic=False, **options))
    return parts


def _recovery(graph: torch.fx.GraphModule) -> set[torch.fx.Node]:
    """The gather of many values from the products, which ends the program, if it does."""
    (last,) = graph.graph.output_node().args
    if not isinstance(last, torch.fx.Node) or last.target is not torch.ops.aten.index_select.default:
        return set()
    index = last.args[2]
    if not isinstance(index, torch.fx.Node) or index.op != "get_attr":
        return set()
    return {last} if getattr(graph, str(index.target)).numel() > _SMALL else set()


def _fold_seeds(graph: torch.fx.GraphModule, constants: Sequence[torch.Tensor]) -> None:
    """Make the seeds constants ``_seeds_k``: computed here once, instead of from the colors in every call."""
    known: dict[torch.fx.Node, Any] = {}
    seeds: list[torch.fx.Node] = []
    for node in graph.graph.nodes:
        inputs = node.all_input_nodes
        if node.op == "get_attr":
            if _is_one_of(graph, node, constants):
                known[node] = getattr(graph, str(node.target))
        elif node.op == "call_function" and all(before in known for before in inputs):
            args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), lambda before: known[before])
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


def _once(graph: torch.fx.GraphModule, constants: Sequence[torch.Tensor]) -> set[torch.fx.Node]:
    """The nodes that do not depend on the seeds: f's own part, the same for every color."""
    seeded: set[torch.fx.Node] = set()
    for node in graph.graph.nodes:
        own = node.op == "get_attr" and (str(node.target).startswith(_SEEDS) or _is_one_of(graph, node, constants))
        if own or any(before in seeded for before in node.all_input_nodes):
            seeded.add(node)
    return {node for node in graph.graph.nodes if node.op == "call_function" and node not in seeded}


def _is_one_of(graph: torch.fx.GraphModule, node: torch.fx.Node, constants: Sequence[torch.Tensor]) -> bool:
    value = getattr(graph, str(node.target))
    return isinstance(value, torch.Tensor) and any(value.data_ptr() == c.data_ptr() for c in constants)


def _is_expensive(node: torch.fx.Node) -> bool:
    name = _name(node)
    small_power = name == "pow" and node.args[1] in (1, 2, 3)  # a product or two
    return name in _EXPENSIVE and not small_power
