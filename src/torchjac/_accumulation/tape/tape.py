"""A tape: a program of tensor ops as a list, each distinct call once. What is read, rewritten and in the end run.

An ``fx.Graph`` says the same, and is made of a tape where something is to be compiled; to build three of them for a
program of a thousand ops, and Python code for the last, would take longer than to read f.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

INPUT, TENSOR = object(), object()
"""Targets of nodes that no op computes: the input with a number, a tensor from outside."""


@dataclass(eq=False, slots=True, repr=False)
class Node:
    """``target(*args, **kwargs)``, where nodes stand for what they compute.

    Attributes
    ----------
    inputs: the nodes among the arguments, each once.
    stage: later stages are compiled apart.
    like: what the result looks like, see ``Recorder``.
    dtype: of a real tensor.
    """

    target: Any
    args: Any = ()
    kwargs: Any = field(default_factory=dict)
    stage: int = 0
    like: Any = None
    dtype: torch.dtype | None = None
    inputs: tuple[Node, ...] = ()

    @property
    def is_call(self) -> bool:
        return self.target is not INPUT and self.target is not TENSOR


class Tape:
    """Write with ``input``, ``tensor`` and ``call``; ``out`` is what the program returns."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.out: Node | None = None
        self._known: dict[Any, Node] = {}
        self._inputs = 0

    def input(self) -> Node:
        """The next input."""
        self._inputs += 1
        return self._added(Node(INPUT, (self._inputs - 1,)))

    def tensor(self, t: torch.Tensor) -> Node:
        """A tensor from outside: t itself, so that the program follows what is written to it later."""
        return self._added(Node(TENSOR, (t,)))

    def copied(self, node: Node) -> Node:
        """An input or a tensor of another tape."""
        self._inputs += node.target is INPUT
        return self._added(replace(node))

    def call(self, target: Any, args: Any, kwargs: Any = None) -> tuple[Node, bool]:
        """The node of a call, and whether it is new."""
        inputs: dict[Node, None] = {}
        key = key_of(target, args, kwargs, inputs)
        node = self._known.get(key)
        if node is not None:
            return node, False
        node = self._known[key] = self._added(Node(target, args, kwargs or {}, inputs=tuple(inputs)))
        return node, True

    def known(self, target: Any, args: Any) -> Node | None:
        """The node of a call, if it was made."""
        return self._known.get(key_of(target, args))

    def _added(self, node: Node) -> Node:
        self.nodes.append(node)
        return node

    def end(self, out: Node) -> None:
        """Let the program return ``out``, and drop what it does not need; inputs stay."""
        needed, ahead = {out}, [out]
        while ahead:
            new = [n for n in ahead.pop().inputs if n not in needed]
            needed.update(new)
            ahead += new
        self.nodes = [node for node in self.nodes if node in needed or node.target is INPUT]
        self.out = out
        self._known = {}

    def runner(self) -> Callable[..., torch.Tensor]:
        """The program as a Python function of its inputs, which lets go of every tensor after its last use."""
        names = {node: f"v{k}" for k, node in enumerate(self.nodes)}
        last = {n: node for node in self.nodes for n in node.inputs}
        space: dict[str, Any] = {}

        def bound(value: Any) -> str:
            space[name := f"c{len(space)}"] = value
            return name

        def text(value: Any) -> str:
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
        """The program as a graph, which refers to the tensors from outside."""
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


def replaced(value: Any, by: Callable[[Any], Any], kind: type = Node) -> Any:
    """Arguments, with ``by(node)`` in place of every node, or of whatever is of that kind."""
    if isinstance(value, kind):
        return by(value)
    if isinstance(value, (list, tuple)):
        return type(value)([replaced(v, by, kind) for v in value])
    if isinstance(value, dict):
        return {name: replaced(v, by, kind) for name, v in value.items()}
    return value


def key_of(target: Any, args: Any, kwargs: Mapping[str, Any] | None = None, nodes: Any = None) -> Any:
    """A hashable stand-in for a call, that tells 1, 1.0 and True apart, and 0.0 and -0.0; ``nodes`` collects nodes.

    An op is known by its id: PyTorch hashes it in Python, again at every look.
    """
    nodes = {} if nodes is None else nodes
    key = id(target), *[_key(value, nodes) for value in args]
    return (key, *[(name, _key(value, nodes)) for name, value in kwargs.items()]) if kwargs else key


def _key(value: Any, nodes: dict[Node, None]) -> Any:
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
