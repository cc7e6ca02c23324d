"""Move signs from operands to results, so that a coefficient and its negative are computed only once.

A difference of neighbours gives every coefficient twice, as c and as -c. Products, sums and moves differ for the
two by the sign only: it is kept apart from the node, and written as a subtraction, or a negation at the end.

    Before/after: mul(neg(a), b), mul(a, b), add(x, neg(y))  ->  -(ab), ab with one mul, sub(x, y)
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..._base.words import Kwargs, OpArgument
from ..._tangent.call import base_name
from ..._tangent.trace import is_view
from .tape import Arguments, Node, Tape, Target, replaced

_aten = torch.ops.aten

_NEGATIONS = frozenset({_aten.neg.default})
_PRODUCTS = frozenset({_aten.mul.Tensor, _aten.mul.Scalar, _aten.div.Tensor, _aten.div.Scalar})
_COMMUTATIVE = frozenset({_aten.mul.Tensor, _aten.add.Tensor})
_SUMS = frozenset({_aten.add.Tensor, _aten.sub.Tensor})
_MOVES = frozenset("slice_backward select_backward roll flip index_select clone sum".split())


class Signed(NamedTuple):
    """A node of the new program, to be negated where ``sign`` is -1."""

    sign: int
    node: Node


def move_signs(program: Tape) -> Tape:
    """Return the same program with fewer negations; only real tensors of one dtype, marked by the recorder, change."""
    rewriter = _Rewriter()
    for node in program.nodes:
        rewriter.take(node)
    assert program.out is not None, "the program has no end"
    rewriter.tape.end(rewriter.plain(program.out))
    return rewriter.tape


class _Rewriter:
    """The new program, written node by node along the old one."""

    def __init__(self) -> None:
        self.tape = Tape()
        self._signed: dict[Node, Signed] = {}
        self._order: dict[Node, int] = {}

    def take(self, node: Node) -> None:
        """Rewrite the next node of the old program."""
        found = self._rewritten(node) if node.is_call else Signed(1, self.tape.copied(node))
        if found is None:
            found = Signed(1, self._call(node, replaced(node.args, self.plain), replaced(node.kwargs, self.plain)))
        self._signed[node] = found
        self._order.setdefault(found.node, len(self._order))

    def _rewritten(self, node: Node) -> Signed | None:
        """Return the node with the signs of its operands taken out; None where that is not possible."""
        kind, inputs = node.dtype, node.inputs
        if kind is None or any(n.dtype != kind for n in inputs if n.dtype is not None):
            return None
        if node.target in _NEGATIONS:
            (operand,) = (self._signed[n] for n in inputs)
            return Signed(-operand.sign, operand.node)
        if node.target in _PRODUCTS and not node.kwargs:
            return self._product(node)
        if node.target in _SUMS and not node.kwargs and all(isinstance(a, Node) for a in node.args):
            return self._sum(node)
        if _moves(node) and isinstance(node.args[0], Node):
            operand = self._signed[node.args[0]]
            rest, kwargs = replaced(node.args[1:], self.plain), replaced(node.kwargs, self.plain)
            return Signed(operand.sign, self._call(node, (operand.node, *rest), kwargs))
        return None

    def _product(self, node: Node) -> Signed:
        sign = 1
        args: list[OpArgument] = []
        for a in node.args:
            mine, factor = self._signed[a] if isinstance(a, Node) else (-1, -a) if a < 0 else (1, a)
            sign *= mine
            args.append(factor)
        same = args[1] == 1 and node.inputs[0].dtype is not None
        return Signed(sign, args[0] if same else self._call(node, tuple(args)))

    def _sum(self, node: Node) -> Signed:
        a, b = (self._signed[n] for n in node.args if isinstance(n, Node))
        if node.target is _aten.sub.Tensor:
            b = Signed(-b.sign, b.node)
        if a.sign == b.sign:
            return Signed(a.sign, self._call(node, (a.node, b.node), target=_aten.add.Tensor))
        plus, minus = (a.node, b.node) if a.sign == 1 else (b.node, a.node)
        opposite = self.tape.known(_aten.sub.Tensor, (minus, plus))
        if opposite is not None:
            return Signed(-1, opposite)
        return Signed(1, self._call(node, (plus, minus), target=_aten.sub.Tensor))

    def plain(self, node: Node) -> Node:
        """Return the new node for an old one, negated where its sign says so."""
        sign, new = self._signed[node]
        return new if sign == 1 else self._call(node, (new,), target=_aten.neg.default)

    def _call(self, node: Node, args: Arguments, kwargs: Kwargs | None = None, target: Target = None) -> Node:
        """Return the new node of a call, in the stage of ``node``; equal calls have one node."""
        target = target or node.target
        if target in _COMMUTATIVE and all(isinstance(a, Node) for a in args):
            args = tuple(sorted(args, key=self._order.__getitem__))
        made, new = self.tape.call(target, args, kwargs)
        if new:
            made.stage, made.like, made.dtype = node.stage, node.like, node.dtype
            self._order[made] = len(self._order)
        return made


def _moves(node: Node) -> bool:
    """Whether a call moves, or adds, the elements of its first operand, and zero stays zero."""
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and (is_view(target) or base_name(target) in _MOVES)
