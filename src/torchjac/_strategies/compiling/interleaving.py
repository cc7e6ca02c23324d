"""Interleaving of columns, since Inductor writes a ``stack`` piece by piece, with strides that it does not vectorise.

Where the columns cost little, each value is chosen by its column: one loop over the values in order computes every
column anew for each value, and the result is written to memory once.

    stack([a, b, c], 1)   ->   where(column < 1, a, where(column < 2, b, c))

Where the columns cost more and there are many values, they are written one after the other and then transposed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.fx import Graph, Node
from torch.fx.node import Argument

from ..._tangent.trace import is_view
from .parts import is_small_power, name_of

_COLUMNS = range(2, 33)  # numbers of columns that a value is chosen from
_PARTS = 8  # the most parts of rows, each with columns of its own
_CHEAP = 24  # so many ops, repeated for each column, take less time than writing and reading their results
_CACHED = 2**20  # so many values fit in a processor's caches

_OPS = dict.fromkeys("add sub mul neg rsub abs where eq lt index index_select".split(), 1)
_OPS |= dict.fromkeys("div reciprocal sqrt rsqrt".split(), 4)
_OPS |= dict.fromkeys("full full_like ones_like zeros_like clone cat stack roll flip".split(), 0)
_OPS |= dict.fromkeys("slice_backward select_backward constant_pad_nd".split(), 0)
_WRITTEN = frozenset({"convolution", "mm", "bmm", "addmm", "baddbmm"})  # their results are always written to memory
_SAME_ORDER = frozenset("view _unsafe_view reshape unsqueeze select clone".split())  # where every element is kept

_aten = torch.ops.aten

Write = Callable[..., Node]


def interleave(graph: Graph) -> None:
    """Replace each ``stack`` of columns by ops that compile better; ``node.meta["like"]`` has each result's shape."""
    for node in graph.find_nodes(op="call_function", target=_aten.stack.default):
        pieces, dim = node.args[0], (node.args[1:] or (0,))[0]
        if dim in (1, -1) and node.meta["like"].dim() == 2 and len(pieces) in _COLUMNS:
            write = partial(_write, graph, node)
            if _cost(pieces) <= _CHEAP:
                node.replace_all_uses_with(_chosen(write, node, pieces))
            elif node.meta["like"].numel() >= _CACHED:
                node.replace_all_uses_with(_transposed(write, pieces))
    graph.eliminate_dead_code()


def _write(graph: Graph, before: Node, target: torch._ops.OpOverload, *args: Argument, **kwargs: Argument) -> Node:
    """A new call before another node, in the same stage."""
    with graph.inserting_before(before):
        made = graph.call_function(target, args, kwargs)
    made.meta["stage"] = before.meta.get("stage", 0)
    return made


def _transposed(write: Write, pieces: Sequence[Node]) -> Node:
    """The columns, written one after the other and transposed: in three dimensions Inductor does that by tiles."""
    rows = write(_aten.cat.default, [write(_aten.reshape.default, piece, [1, 1, -1]) for piece in pieces], 1)
    columns = write(_aten.transpose.int, rows, 1, 2)
    return write(_aten.squeeze.dim, write(_aten.clone.default, columns, memory_format=torch.contiguous_format), 0)


def _chosen(write: Write, node: Node, pieces: Sequence[Node]) -> Node:
    """The values chosen by column, one choice for each part of the rows, the parts one below the other."""
    sizes = next((found for found in map(_partition, pieces) if found), [pieces[0].meta["like"].numel()])
    number = write(_aten.arange.default, len(pieces), device=node.meta["like"].device)
    rows: list[Node] = []
    for k, (start, stop) in enumerate(itertools.pairwise([0, *itertools.accumulate(sizes)])):
        own = [
            _operands(piece)[k] if _partition(piece) == sizes else write(_aten.slice.Tensor, piece, 0, start, stop)
            for piece in pieces
        ]
        rows.append(_choice(write, number, [write(_aten.reshape.default, part, [stop - start, 1]) for part in own]))
    return rows[0] if len(rows) == 1 else write(_aten.cat.default, rows)


def _choice(write: Write, number: Node, columns: Sequence[Node], first: int = 0) -> Node:
    """The value of the column that each number names, found by halves; ``first`` is the number of ``columns[0]``."""
    if len(columns) == 1:
        return columns[0]
    half = len(columns) // 2
    left, right = (
        _choice(write, number, part, start) for part, start in ((columns[:half], first), (columns[half:], first + half))
    )
    return write(_aten.where.self, write(_aten.lt.Scalar, number, first + half), left, right)


def _partition(piece: Node) -> list[int]:
    """The number of rows of each part of a column; empty where the column is one piece or has too many parts."""
    sizes = [part.meta["like"].numel() for part in _operands(piece)]
    return sizes if len(sizes) <= _PARTS else []


def _operands(piece: Node) -> Sequence[Node]:
    """The tensors that lie one below the other in a column; empty where it is one piece."""
    rows = piece.meta["like"].numel()
    while name_of(piece) in _SAME_ORDER:
        piece = piece.all_input_nodes[0]
        if piece.meta["like"].numel() != rows:
            return []
    if name_of(piece) not in ("stack", "cat") or (piece.args[1:] or (0,))[0] != 0:
        return []
    parts = piece.args[0]
    assert isinstance(parts, Sequence), "stack and cat take several tensors"
    return [part for part in parts if isinstance(part, Node)]


def _cost(pieces: Sequence[Node]) -> float:
    """The cost, in simple ops, of computing the columns from tensors in memory."""
    seen, todo, cost = set(pieces), list(pieces), 0.0
    while todo:
        node = todo.pop()
        if name_of(node) in _WRITTEN or node.op != "call_function":
            continue
        cost += _cost_of(node)
        new = set(node.all_input_nodes) - seen
        seen |= new
        todo += new
    return cost


def _cost_of(node: Node) -> float:
    name, target = name_of(node), node.target
    if name == "getitem" or (isinstance(target, torch._ops.OpOverload) and is_view(target)):
        return 0
    if is_small_power(node):
        return 2
    return _OPS.get(name, float("inf"))
