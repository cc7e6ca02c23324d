"""A compiled program (``compile=True``): products and recovery captured as one graph of tensor ops, and compiled.

The program is captured with ``make_fx`` (sturdier than tracing forward mode through Dynamo) and compiled by Inductor
for one signature; it serves every x of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch.fx.node import Argument
from torch.utils import _pytree as pytree

from ..._base.user_frame import warn
from ..._base.words import Args
from ..._products.rounding import largest, near
from .parts import CompileOptions
from .regions import compile_products
from .stages import compile_program

Values = Callable[[Args], torch.Tensor]


class Compiled:
    """The function ``values``, compiled for arguments like ``args``.

    It runs eagerly where it cannot be compiled, for the reason ``eager_because``. ``constants``: the tensors that the
    seeds are made of; ops that depend on them run once a color. ``graph``: the program where one was captured already.
    """

    def __init__(
        self,
        values: Values,
        args: Args,
        constants: Sequence[torch.Tensor],
        options: CompileOptions,
        graph: torch.fx.GraphModule | None = None,
    ) -> None:
        self._values = values
        self.differentiable = graph is not None  # a program of ordinary ops; a captured one has lost its derivatives
        self._program: Callable[..., torch.Tensor] | None = None
        self.regions = 0
        self.eager_because = ""
        tensors, self._spec, self._fixed = _split(args)
        try:
            if graph is None:
                self._program, self.regions = compile_products(self._capture(tensors), constants, options)
            else:
                self._program, self.regions = compile_program(graph, tensors, options)
            with torch.no_grad(), _one_tracing():
                self._program(*tensors)  # compiles
        except Exception as error:  # of f under the tracing, of the compiler or of the machine: all run eagerly
            self._drop((str(error).strip() or type(error).__name__).splitlines()[0])

    def _drop(self, reason: str) -> None:
        self._program, self.regions, self.eager_because = None, 0, reason

    def compare(self, args: Args, values: torch.Tensor) -> None:
        """Drop the program unless it gives ``values`` at ``args``, to the square root of the precision."""
        if self._program is None:
            return
        got = self(args)
        same = near(got, values, largest(values.detach()), factor=1) | (got == values) | (got.isnan() & values.isnan())
        if not bool(same.all()):
            self._drop("compiled values are not the eager ones")

    def say(self) -> None:
        """Warn where the program runs eagerly."""
        if self.eager_because:
            warn(f"compile=True runs eagerly, because {self.eager_because}")

    def __call__(self, args: Args) -> torch.Tensor:
        """The values at ``args``, (nnz,); with derivatives only if ``differentiable``; eager where not compiled."""
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
            leaves: list[object] = [next(free) if leaf is None else leaf[0] for leaf in self._fixed]
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
    """Replace zeros without memory, the tangents of constants, by zeros in memory: Inductor reads them."""
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten._efficientzerotensor.default):
        node.target = torch.ops.aten.zeros.default


def _own_memory(graph: torch.fx.GraphModule) -> None:
    """Copy the tensor that an index_put starts from, if it is expanded: Inductor would write to all copies at once."""
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.aten.index_put.default):
        start = node.args[0]
        if isinstance(start, torch.fx.Node) and start.target is torch.ops.aten.expand.default:
            with graph.graph.inserting_before(node):
                contiguous: dict[str, Argument] = {"memory_format": torch.contiguous_format}
                copy = graph.graph.call_function(torch.ops.aten.clone.default, (start,), contiguous)
            node.replace_input_with(start, copy)


def _split(args: Args) -> tuple[list[torch.Tensor], pytree.TreeSpec, list[tuple[object] | None]]:
    """The tensor leaves, the tree, and all leaves in 1-tuples, with None in the place of a tensor."""
    flat, spec = pytree.tree_flatten(args)
    tensors = [leaf.detach() for leaf in flat if isinstance(leaf, torch.Tensor)]
    return tensors, spec, [None if isinstance(leaf, torch.Tensor) else (leaf,) for leaf in flat]


def _one_tracing() -> AbstractContextManager[object]:
    """A context in which Dynamo takes floats as constants at once, instead of tracing a second time."""
    import torch._dynamo

    patch: AbstractContextManager[object] = torch._dynamo.config.patch(specialize_float=True)
    return patch
