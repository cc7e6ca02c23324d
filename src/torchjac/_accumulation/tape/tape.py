"""A tape: a program of tensor ops as a list, each distinct call once. It is recorded, rewritten and in the end run.

A tape becomes an ``fx.Graph`` only where something is to be compiled: to build three graphs for a program of a thousand
ops, and the Python code of the last, would take longer than to read f.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch

from ..._base.words import Kwargs, OpArgument, OpResult

INPUT, TENSOR = object(), object()
"""Targets of nodes that no op computes: the input with a number, a tensor from outside."""

Target: TypeAlias = Any
"""The function that a node calls, an overload of an op or ``operator.getitem``; or INPUT or TENSOR."""

Arguments: TypeAlias = tuple[OpArgument, ...]
"""The positional arguments of a node: as those of an op, with nodes in place of tensors."""


@dataclass(eq=False, slots=True, repr=False)
class Node:
    """A call ``target(*args, **kwargs)``, where nodes stand for what they compute.

    Attributes
    ----------
    inputs: the nodes among the arguments, each once.
    stage: nodes of different stages are compiled apart.
    like: a tensor (or tensors) with the shape and dtype of the result, see ``Recorder``.
    dtype: the dtype of a result that is a real tensor.
    """

    target: Target
    args: Arguments = ()
    kwargs: Kwargs = field(default_factory=dict)
    stage: int = 0
    like: OpResult = None
    dtype: torch.dtype | None = None
    inputs: tuple[Node, ...] = ()

    @property
    def is_call(self) -> bool:
        return self.target is not INPUT and self.target is not TENSOR


class Tape:
    """A program, written by ``input``, ``tensor`` and ``call``; it returns ``out``."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.out: Node | None = None
        self._known: dict[Hashable, Node] = {}
        self._inputs = 0

    def input(self) -> Node:
        """Add the next input."""
        self._inputs += 1
        return self._added(Node(INPUT, (self._inputs - 1,)))

    def tensor(self, t: torch.Tensor) -> Node:
        """Add a tensor from outside: t itself, so that the program follows what is written to it later."""
        return self._added(Node(TENSOR, (t,)))

    def copied(self, node: Node) -> Node:
        """Add an input or a tensor of another tape."""
        self._inputs += node.target is INPUT
        return self._added(replace(node))

    def call(self, target: Target, args: Arguments, kwargs: Kwargs | None = None) -> tuple[Node, bool]:
        """Return the node of a call, and whether it is new."""
        inputs: dict[Node, None] = {}
        key = key_of(target, args, kwargs, inputs)
        node = self._known.get(key)
        if node is not None:
            return node, False
        node = self._known[key] = self._added(Node(target, args, kwargs or {}, inputs=tuple(inputs)))
        return node, True

    def known(self, target: Target, args: Arguments) -> Node | None:
        """Return the node of a call that was made before; None if there is none."""
        return self._known.get(key_of(target, args))

    def _added(self, node: Node) -> Node:
        self.nodes.append(node)
        return node

    def end(self, out: Node) -> None:
        """End the program, which returns ``out``, and drop what that does not need; inputs stay."""
        needed, ahead = {out}, [out]
        while ahead:
            new = [n for n in ahead.pop().inputs if n not in needed]
            needed.update(new)
            ahead += new
        self.nodes = [node for node in self.nodes if node in needed or node.target is INPUT]
        self.out = out
        self._known = {}

    def runner(self) -> Callable[..., torch.Tensor]:
        """Return the program as a Python function of its inputs, which frees every tensor after its last use."""
        names = {node: f"v{k}" for k, node in enumerate(self.nodes)}
        last = {n: node for node in self.nodes for n in node.inputs}
        space: dict[str, Any] = {}

        def bound(value: object) -> str:
            space[name := f"c{len(space)}"] = value
            return name

        def text(value: OpArgument) -> str:
            if isinstance(value, Node):
                return names[value]
            if isinstance(value, (list, tuple)):
                inside = "".join(text(v) + "," for v in value)
                return f"[{inside}]" if isinstance(value, list) else f"({inside})"
            return repr(value) if value is None or type(value) in (bool, int) else bound(value)

        functions = {target: bound(target) for target in {node.target for node in self.nodes if node.is_call}}
        lines = []
        for node in self.nodes:
            if node.is_call:
                given = [*map(text, node.args), *(f"{name}={text(value)}" for name, value in node.kwargs.items())]
                gone = [names[n] for n in node.inputs if last[n] is node and n.is_call]
                lines.append(f" {names[node]}={functions[node.target]}({','.join(given)})")
                lines += [f" del {','.join(gone)}"] if gone else []
            elif node.target is TENSOR:
                space[names[node]] = node.args[0]
        inputs = ",".join(names[node] for node in self.nodes if node.target is INPUT)
        assert self.out is not None, "the program has no end"
        source = "\n".join([f"def run({inputs}):", *lines, f" return {names[self.out]}"])
        exec(compile(source, "<accumulated>", "exec"), space)  # of names made here and objects bound to them
        run: Callable[..., torch.Tensor] = space["run"]
        return run

    def module(self) -> torch.fx.GraphModule:
        """Return the program as a graph, which refers to the tensors from outside."""
        graph, root = torch.fx.Graph(), torch.nn.Module()
        new: dict[Node, torch.fx.Node] = {}
        for node in self.nodes:
            if node.target is INPUT:
                made = graph.placeholder(f"input_{node.args[0]}")
            elif node.target is TENSOR:
                name = f"constant_{len(new)}"
                _register(root, name, node.args[0])
                made = graph.get_attr(name)
            else:
                made = graph.call_function(
                    node.target, replaced(node.args, new.__getitem__), replaced(node.kwargs, new.__getitem__)
                )
                made.meta["stage"] = node.stage
            new[node] = made
        assert self.out is not None, "the program has no end"
        graph.output(new[self.out])
        return torch.fx.GraphModule(root, graph)


def replaced(value: OpArgument, by: Callable[[OpArgument], OpArgument], kind: type = Node) -> OpArgument:
    """Return arguments with ``by(node)`` in place of every node, or of everything of another ``kind``."""
    if isinstance(value, kind):
        return by(value)
    if isinstance(value, (list, tuple)):
        return type(value)([replaced(v, by, kind) for v in value])
    if isinstance(value, dict):
        return {name: replaced(v, by, kind) for name, v in value.items()}
    return value


def key_of(
    target: Target,
    args: Arguments,
    kwargs: Mapping[str, OpArgument] | None = None,
    nodes: dict[Node, None] | None = None,
) -> Hashable:
    """Return a key of a call, which tells 1, 1.0 and True apart, and 0.0 and -0.0; ``nodes`` collects its nodes.

    An op is known by its id: PyTorch computes its hash in Python, at every lookup.
    """
    nodes = {} if nodes is None else nodes
    key = id(target), *[_key(value, nodes) for value in args]
    return (key, *[(name, _key(value, nodes)) for name, value in kwargs.items()]) if kwargs else key


def _key(value: OpArgument, nodes: dict[Node, None]) -> Hashable:
    if isinstance(value, Node):
        nodes[value] = None
        return value
    if isinstance(value, (list, tuple)):
        return tuple([_key(v, nodes) for v in value])
    if isinstance(value, slice):
        return ("slice", value.start, value.stop, value.step)
    return (type(value), repr(value) if isinstance(value, (float, complex)) else value)


def _register(root: torch.nn.Module, name: str, t: torch.Tensor) -> None:
    """Let a program refer to a tensor by name: the tensor itself, not a copy."""
    if isinstance(t, torch.nn.Parameter):
        root.register_parameter(name, t)
    else:
        root.register_buffer(name, t)
