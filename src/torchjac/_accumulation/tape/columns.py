"""Programs over many small things (an element's 3 x 2 numbers, a camera's 6), written column by column.

A tensor (E, 3, 2) makes loops of length 2 inside loops of length E: no compiler vectorises these well, and what a row
shares is computed again for each of its numbers. By columns the same program is a few vectors of length E, which fuse
into one loop and are faster op by op too. Moving columns costs nothing then, and a column of one number is a number.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable
from functools import reduce
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
import torch

from ..._base.words import Kwargs, OpArgument, OpResult
from ..._tangent.call import base_name
from ..._tangent.trace import is_pointwise, is_view
from .tape import TENSOR, Arguments, Node, Tape, Target, key_of, replaced

_LONG = 64  # rows of a tensor that is taken apart, at least
_SMALL = 24  # columns of a tensor that is taken apart, at most

Column = Node | float | bool
Columns = npt.NDArray[np.object_]
"""A tensor (E, *small) as an array of the shape ``small``, of nodes for vectors (E,) and of numbers."""

_MOVES = frozenset("slice_backward select_backward constant_pad_nd cat index_select flip stack".split())
_SAME = frozenset({"clone", "alias"})

_aten = torch.ops.aten
_VIEWS = (_aten.view.default, _aten._unsafe_view.default)


def columnwise(program: Tape) -> Tape:
    """Return the same program, with tensors of few columns computed column by column; ``like`` shows the shapes."""
    rewriter = _Rewriter()
    with torch.no_grad():
        for node in program.nodes:
            rewriter.take(node)
    assert program.out is not None, "the program has no end"
    rewriter.tape.end(rewriter.whole(program.out))
    for node in rewriter.tape.nodes:
        node.like = None  # of an input, it would keep the arguments
    return rewriter.tape


class _Rewriter:
    """The new program, written node by node along the old one."""

    def __init__(self) -> None:
        self.tape = Tape()
        self._wholes: dict[Node, Node] = {}
        self._columns: dict[Node, Columns] = {}
        self._lone: set[Node] = set()  # columns that are one number for all rows
        self._places: dict[Hashable, list[int] | None] = {}
        self._stage = 0

    def take(self, node: Node) -> None:
        """Rewrite the next node of the old program."""
        if not node.is_call:
            self._wholes[node] = self.tape.copied(node)
            return
        self._stage = node.stage
        columns = self._by_columns(node, node.like)
        if columns is not None:
            self._columns[node] = columns
        else:
            target = _aten.reshape.default if node.target in _VIEWS else node.target  # other strides than before
            args, kwargs = replaced(node.args, self.whole), replaced(node.kwargs, self.whole)
            self._wholes[node] = self._call(target, args, kwargs)

    def _call(self, target: Target, args: Arguments, kwargs: Kwargs | None = None) -> Node:
        """Return the new node of a call; equal calls have one node."""
        node, new = self.tape.call(target, args, kwargs)
        if new:
            node.stage = self._stage
        return node

    def whole(self, node: Node) -> Node:
        """Return the new node for the whole tensor of an old one."""
        if node not in self._wholes:
            t, columns = node.like, self._columns[node]
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
        """Return a column as an operand: a number becomes a tensor of no dimensions."""
        if isinstance(column, Node):
            return column
        number = self._call(_aten.full.default, ([], column), {"dtype": like.dtype, "device": like.device})
        self._lone.add(number)
        return number

    def _split(self, node: Node) -> Columns:
        """Return the columns of an old node."""
        if node not in self._columns:
            small = node.like.shape[1:]
            found = np.empty(small, object)
            for place in np.ndindex(*small):
                select = lambda n, at: self._call(_aten.select.int, (n, 1, at))  # noqa: E731  # two words long
                found[place] = reduce(select, place, self._wholes[node])
            self._columns[node] = found
        return self._columns[node]

    # ---- the kinds of op

    def _by_columns(self, node: Node, out: OpResult) -> Columns | None:
        """Return the columns of a call's result; None where it is better left whole."""
        tall = [n for n in node.inputs if _is_tall(n.like)]
        if any(isinstance(t, torch.Tensor) and t.is_complex() for t in (out, *(n.like for n in tall))):
            return None
        if node.target is operator.getitem or not _is_tall(out) or not any(self._changes(n) for n in tall):
            return None
        target = node.target  # an overload, where it is not getitem
        name = base_name(target)
        if name == "sum":
            return self._sum(node, out)
        if name == "gelu_backward":  # by oneDNN, which takes no number in place of a column
            return None
        if name in _SAME:
            return self._split(tall[0])
        if is_view(target) or name in _MOVES:
            return self._move(node, out)
        if is_pointwise(target) or name == "where":
            return self._pointwise(node, out.shape)
        return None

    def _changes(self, node: Node) -> bool:
        """Whether a node may have other numbers in the next call."""
        return node.target is not TENSOR or bool(node.like.is_floating_point())

    def _pointwise(self, node: Node, shape: torch.Size) -> Columns | None:
        """Return the op on every column; None where an operand has no columns."""
        parts: dict[Node, Columns] = {}
        for n in node.inputs:
            operand = self._operand(n, shape)
            if operand is None:
                return None
            parts[n] = operand
        found = np.empty(shape[1:], object)
        for place in np.ndindex(*shape[1:]):
            mine: dict[Node, OpArgument] = {n: part[place] for n, part in parts.items()}
            condition, chosen, other = (
                replaced(node.args, mine.__getitem__) if node.target is _aten.where.self else (None, None, None)
            )
            if isinstance(condition, bool):
                found[place] = chosen if condition else other
            else:
                tensors = {n: self._scalar(column, n.like) for n, column in mine.items()}
                args, kwargs = replaced(node.args, tensors.__getitem__), replaced(node.kwargs, tensors.__getitem__)
                found[place] = made = self._call(node.target, args, kwargs)
                if self._lone.issuperset(tensors.values()):
                    self._lone.add(made)
        return found

    def _operand(self, node: Node, shape: torch.Size) -> Columns | None:
        """Return the columns of an operand that is broadcast to ``shape``; numbers where its rows are all the same."""
        t = node.like
        padded = (1,) * (len(shape) - t.dim()) + tuple(t.shape)
        if padded[0] == shape[0]:
            columns = self._split(node).reshape(padded[1:]) if t.dim() == len(shape) else None
        elif not self._changes(node) and t.numel() <= _SMALL and t.dtype == torch.bool:
            columns = np.array(t.reshape(-1).tolist(), object).reshape(padded[1:])
        elif t.numel() <= _SMALL:
            flat = self._call(_aten.reshape.default, (self.whole(node), [-1]))
            columns = np.empty(t.numel(), object)
            columns[:] = [self._call(_aten.select.int, (flat, 0, k)) for k in range(t.numel())]
            self._lone.update(columns)
            columns = columns.reshape(padded[1:])
        else:
            columns = None
        return None if columns is None else np.broadcast_to(columns, shape[1:])

    def _sum(self, node: Node, out: torch.Tensor) -> Columns | None:
        """Return the columns of a sum over dimensions of columns: columns added; None for other sums."""
        operand, dims = node.args[0], node.args[1] if len(node.args) > 1 else None
        assert isinstance(operand, Node)
        t = operand.like
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
        """Return the columns of an op that moves whole columns; None for one that does not."""
        table: list[Column] = [0.0]
        moved = {n: n.like for n in node.inputs if n.like.dtype == out.dtype}  # the others are indices
        if base_name(node.target) == "index_select" and (out.dtype == torch.int64 or node.args[2].is_call):
            return None  # numbers that are moved look like those that say where, and these may be others next time
        if base_name(node.target) == "constant_pad_nd" and (
            node.kwargs.get("value") or node.args[2:] not in ((), (0,))
        ):
            return None  # what is padded with would be taken for the number of an element
        if not all(_is_tall(t) and t.shape[0] == out.shape[0] for t in moved.values()):
            return None
        for n in moved:
            table.extend(self._split(n).reshape(-1))
        shapes: dict[Node, Hashable] = {
            n: (n.like.shape, list(moved).index(n)) if n in moved else ("index", id(n)) for n in node.inputs
        }
        key = key_of(node.target, replaced(node.args, shapes.__getitem__), replaced(node.kwargs, shapes.__getitem__))
        if key not in self._places:
            self._places[key] = _places(node, moved)
        places = self._places[key]
        if places is None:
            return None
        found = np.empty(len(places), object)
        found[:] = [table[place] for place in places]
        return found.reshape(out.shape[1:])


def _places(node: Node, operands: dict[Node, torch.Tensor]) -> list[int] | None:
    """Return, for each column of a move's result, the column of its operands that it is, from 1 on; 0 for zeros.

    The op is run on numbers of elements. Where element c of row r has the number 1 + r * C + c, whole columns are moved
    if every column of the result grows by C from row to row; 0 is the number of no element.
    """
    table, numbers, start = {0: (0, 0)}, {}, 1
    for n, t in operands.items():
        count = t.numel() // t.shape[0]
        numbers[n] = torch.arange(start, start + t.numel()).reshape(t.shape)
        table |= {start + k: (len(table) + k, count) for k in range(count)}
        start += t.numel()
    moved = _again(node, numbers)
    if moved.dtype != torch.int64:  # a cast, which only looks like a view
        return None
    first = moved[0].reshape(-1).tolist()
    if any(place not in table for place in first) or not _counts_on(moved, [table[p][1] for p in first], numbers):
        return None
    return [table[place][0] for place in first]


def _counts_on(moved: torch.Tensor, steps: list[int], numbers: dict[Node, torch.Tensor]) -> bool:
    """Whether column k of ``moved`` grows by ``steps[k]`` from row to row."""
    if len(numbers) == 1:
        (whole,) = numbers.values()
        if moved.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr():  # a stride is a difference
            return all(step == moved.stride(0) for step in steps)
    rows = moved.reshape(moved.shape[0], -1).numpy()
    return bool((rows[1:] - rows[:-1] == np.array(steps)).all())


def _again(node: Node, of: dict[Node, torch.Tensor]) -> torch.Tensor:
    """Run the op on ``of`` in place of its operands; other arguments (an index) stay."""
    given = of | {n: n.like.cpu() for n in node.inputs if n not in of}
    args, kwargs = replaced(node.args, given.__getitem__), replaced(node.kwargs, given.__getitem__)
    moved: torch.Tensor = torch.reshape(*args) if node.target in _VIEWS else node.target(*args, **kwargs)
    return moved


def _is_tall(t: OpResult) -> TypeGuard[torch.Tensor]:
    """Whether t is a tensor of many rows with few columns each."""
    return isinstance(t, torch.Tensor) and t.dim() > 0 and t.shape[0] >= _LONG and 0 < math.prod(t.shape[1:]) <= _SMALL
