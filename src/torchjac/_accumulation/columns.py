"""Programs over many small things (an element's 3 x 2 numbers, a camera's 6), written column by column.

A tensor (E, 3, 2) makes loops of length 2 inside loops of length E: no compiler vectorises these well, and what a row
shares is computed again for each of its numbers. By columns the same program is a few vectors of length E, which fuse
into one loop and are faster op by op too. Moving columns costs nothing then, and a column of one number is a number.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

from .._tangent.call import base_name
from .._tangent.trace import is_pointwise, is_view

_LONG = 64  # rows of a tensor worth taking apart
_SMALL = 24  # columns, at most

Column = Node | float | bool
Columns = np.ndarray[Any, np.dtype[np.object_]]
"""A tensor (E, *small) as an array of the shape ``small``, of nodes for vectors (E,) and of numbers."""

_MOVES = frozenset("slice_backward select_backward constant_pad_nd cat index_select flip stack".split())
_SAME = frozenset({"clone", "alias"})

_aten = torch.ops.aten
_VIEWS = (_aten.view.default, _aten._unsafe_view.default)


def columnwise(graph: Graph, tensors: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> GraphModule:
    """The program of a graph that refers to ``tensors``, where those with few columns are computed column by column.

    ``inputs`` show their shapes; a call shows its own in ``node.meta["like"]``.
    """
    rewriter = _Rewriter(tensors, inputs)
    with torch.no_grad():
        for node in graph.nodes:
            rewriter.take(node)
    return rewriter.program()


class _Rewriter:
    """Walks through the old program node by node, and writes the new one beside it; ``_values`` show the shapes."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], inputs: Sequence[torch.Tensor]) -> None:
        self._tensors, self._inputs = tensors, iter(inputs)
        self._new, self._root = Graph(), torch.nn.Module()
        self._values: dict[Node, Any] = {}
        self._wholes: dict[Node, Node] = {}
        self._columns: dict[Node, Columns] = {}
        self._known: dict[Any, Node] = {}
        self._lone: set[Node] = set()  # columns that are one number for all rows
        self._stage = 0

    def program(self) -> GraphModule:
        """What was written."""
        self._new.eliminate_dead_code()
        return GraphModule(self._root, self._new)

    def take(self, node: Node) -> None:
        """The next node of the old program."""
        if node.op == "placeholder":
            self._values[node], self._wholes[node] = next(self._inputs), self._new.placeholder(str(node.target))
        elif node.op == "get_attr":
            self._values[node] = t = self._tensors[str(node.target)]
            _register(self._root, str(node.target), t)
            self._wholes[node] = self._new.get_attr(str(node.target))
        elif node.op == "output":
            self._new.output(map_arg(node.args[0], self._whole))
        else:
            self._stage = node.meta.get("stage", 0)
            self._values[node] = out = self._like(node)
            columns = self._by_columns(node, out)
            if columns is not None:
                self._columns[node] = columns
            else:
                target = _aten.reshape.default if node.target in _VIEWS else node.target  # other strides than before
                self._wholes[node] = self._call(target, *map_arg((node.args, node.kwargs), self._whole))

    def _like(self, node: Node) -> Any:
        """What shows the shape of a call's result."""
        if node.target is operator.getitem:
            source, k = node.args
            return self._values[source][k]  # type: ignore[index]  # of a node, by number
        return node.meta["like"]

    def _call(self, target: Any, args: Any, kwargs: Any = None) -> Node:
        """A node of the new program; the same for the same call."""
        key = (target, repr((args, kwargs)))
        if key not in self._known:
            self._known[key] = node = self._new.call_function(target, args, kwargs or {})
            node.meta["stage"] = self._stage
        return self._known[key]

    def _whole(self, node: Node) -> Node:
        """The new node for all of an old one's tensor."""
        if node not in self._wholes:
            t, columns = self._values[node], self._columns[node]
            if t.dim() == 1:
                self._wholes[node] = self._vector(columns.item(), t)
                return self._wholes[node]
            parts = [self._vector(column, t) for column in columns.reshape(-1)]
            stacked = self._call(_aten.stack.default, (parts, -1))
            self._wholes[node] = self._call(_aten.reshape.default, (stacked, list(t.shape)))
        return self._wholes[node]

    def _vector(self, column: Column, like: torch.Tensor) -> Node:
        if not isinstance(column, Node) or column in self._lone:
            return self._call(_aten.expand.default, (self._scalar(column, like), [like.shape[0]]))
        return column

    def _scalar(self, column: Column, like: torch.Tensor) -> Node:
        """A column as an operand: a number becomes a tensor of no dimensions."""
        if isinstance(column, Node):
            return column
        number = self._call(_aten.full.default, ([], column), {"dtype": like.dtype, "device": like.device})
        self._lone.add(number)
        return number

    def _split(self, node: Node) -> Columns:
        """The columns of an old node."""
        if node not in self._columns:
            small = self._values[node].shape[1:]
            found = np.empty(small, object)
            for place in np.ndindex(*small):
                select = lambda n, at: self._call(_aten.select.int, (n, 1, at))  # noqa: E731  # two words long
                found[place] = reduce(select, place, self._wholes[node])
            self._columns[node] = found
        return self._columns[node]

    # ---- the kinds of op

    def _by_columns(self, node: Node, out: Any) -> Columns | None:
        """The columns of a call's result; None where it is better left whole."""
        tall = [n for n in node.all_input_nodes if _is_tall(self._values[n])]
        if any(isinstance(t, torch.Tensor) and t.is_complex() for t in (out, *map(self._values.get, tall))):
            return None
        if node.target is operator.getitem or not _is_tall(out) or not any(self._changes(n) for n in tall):
            return None
        target: Any = node.target  # an overload, where it is not getitem
        name = base_name(target)
        if name == "sum":
            return self._sum(node, out)
        if name in _SAME:
            return self._split(tall[0])
        if is_view(target) or name in _MOVES:
            return self._move(node, out)
        if is_pointwise(target) or name == "where":
            return self._pointwise(node, out.shape)
        return None

    def _changes(self, node: Node) -> bool:
        """Whether a node may have other numbers in the next call."""
        return node.op != "get_attr" or self._values[node].is_floating_point()

    def _pointwise(self, node: Node, shape: torch.Size) -> Columns | None:
        """The op on every column."""
        parts: dict[Node, Columns] = {}
        for n in node.all_input_nodes:
            operand = self._operand(n, shape)
            if operand is None:
                return None
            parts[n] = operand
        found = np.empty(shape[1:], object)
        for place in np.ndindex(*shape[1:]):
            mine: dict[Node, Any] = {n: part[place] for n, part in parts.items()}
            condition, chosen, other = _mapped(node, mine)[0] if node.target is _aten.where.self else (None, None, None)
            if isinstance(condition, bool):
                found[place] = chosen if condition else other
            else:
                tensors = {n: self._scalar(column, self._values[n]) for n, column in mine.items()}
                found[place] = made = self._call(node.target, *_mapped(node, tensors))
                if self._lone.issuperset(tensors.values()):
                    self._lone.add(made)
        return found

    def _operand(self, node: Node, shape: torch.Size) -> Columns | None:
        """The columns of an operand that is broadcast to ``shape``; numbers where its rows are all the same."""
        t = self._values[node]
        padded = (1,) * (len(shape) - t.dim()) + tuple(t.shape)
        if padded[0] == shape[0]:
            columns = self._split(node).reshape(padded[1:]) if t.dim() == len(shape) else None
        elif not self._changes(node) and t.numel() <= _SMALL and t.dtype == torch.bool:
            columns = np.array(t.reshape(-1).tolist(), object).reshape(padded[1:])
        elif t.numel() <= _SMALL:
            flat = self._call(_aten.reshape.default, (self._whole(node), [-1]))
            columns = np.empty(t.numel(), object)
            columns[:] = [self._call(_aten.select.int, (flat, 0, k)) for k in range(t.numel())]
            self._lone.update(columns)
            columns = columns.reshape(padded[1:])
        else:
            columns = None
        return None if columns is None else np.broadcast_to(columns, shape[1:])

    def _sum(self, node: Node, out: torch.Tensor) -> Columns | None:
        """Sums over dimensions of columns: the columns added."""
        operand, dims = node.args[0], node.args[1] if len(node.args) > 1 else None
        assert isinstance(operand, Node)
        t = self._values[operand]
        gone = sorted({d % t.dim() for d in dims}) if isinstance(dims, (list, tuple)) and dims else [0]
        if gone[0] == 0 or not _is_tall(t) or t.dtype != out.dtype:
            return None
        moved = np.moveaxis(self._split(operand), [d - 1 for d in gone], range(len(gone)))
        terms = moved.reshape(-1, *moved.shape[len(gone) :])
        found = np.empty(terms.shape[1:], object)
        for place in np.ndindex(*terms.shape[1:]):
            column = [self._vector(term, out) for term in terms[(slice(None), *place)]]
            found[place] = reduce(lambda a, b: self._call(_aten.add.Tensor, (a, b)), column)
        return found.reshape(out.shape[1:])

    def _move(self, node: Node, out: torch.Tensor) -> Columns | None:
        """An op that moves whole columns, seen by running it on the numbers of columns and of rows."""
        table: list[Column] = [0.0]
        column_of: dict[Node, torch.Tensor] = {}
        row_of: dict[Node, torch.Tensor] = {}
        for n in node.all_input_nodes:
            t = self._values[n]
            if t.dtype != out.dtype:
                continue  # an index
            if not _is_tall(t) or t.shape[0] != out.shape[0]:
                return None
            mine = self._split(n).reshape(-1)
            column_of[n] = (torch.arange(mine.size) + len(table)).reshape(1, *t.shape[1:]).expand(t.shape)
            row_of[n] = _rows(t.shape)
            table.extend(mine)
        columns, rows = (self._again(node, of) for of in (column_of, row_of))
        kept = (rows == _rows(out.shape)) | (columns == 0)
        if not bool((columns == columns[:1]).all()) or not bool(kept.all()):
            return None
        found = np.empty(columns.shape[1:], object)
        for place in np.ndindex(*columns.shape[1:]):
            found[place] = table[int(columns[(0, *place)])]
        return found

    def _again(self, node: Node, of: dict[Node, torch.Tensor]) -> torch.Tensor:
        others = {n: self._values[n].cpu() for n in node.all_input_nodes if n not in of}
        args, kwargs = _mapped(node, of | others)
        target: Any = node.target
        moved: torch.Tensor = torch.reshape(*args) if target in _VIEWS else target(*args, **kwargs)
        return moved


def _mapped(node: Node, given: Mapping[Node, Any]) -> tuple[Any, Any]:
    """The arguments of a call, with its nodes replaced."""
    replace: Any = given.__getitem__
    args, kwargs = map_arg((node.args, node.kwargs), replace)
    return args, kwargs


def _is_tall(t: Any) -> bool:
    """Whether t is a tensor of many rows with few columns each."""
    return isinstance(t, torch.Tensor) and t.dim() > 0 and t.shape[0] >= _LONG and 0 < math.prod(t.shape[1:]) <= _SMALL


def _rows(shape: torch.Size) -> torch.Tensor:
    """The row number, plus one, of every element."""
    return torch.arange(1, shape[0] + 1).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)


def _register(root: torch.nn.Module, name: str, t: torch.Tensor) -> None:
    """Let a program refer to a tensor by name: the tensor itself, not a copy."""
    if isinstance(t, torch.nn.Parameter):
        root.register_parameter(name, t)
    else:
        root.register_buffer(name, t)
