"""Products that sum over a shared dimension: the matmul family.

Before/after: ``mm(t, P)`` with t (i, k): each output row i collects row i of t, the same for every column j.
"""

from __future__ import annotations

from ..call import Call
from ..registry import rule
from ..relations import Mix, Pointwise, Relation, Relations

Dims = tuple[int | None, ...]


def _product(call: Call, left: tuple[str, Dims], right: tuple[str, Dims], added: str = "") -> Relations:
    relations: list[Relation] = [Mix(call[name], dims) for name, dims in (left, right) if call.depends(call[name])]
    if added and call.depends(call[added]):
        relations.append(Pointwise(call[added]))
    return relations


@rule("mm")
def mm(call: Call) -> Relations:
    """(i, k) @ (k, j) -> (i, j)."""
    return _product(call, ("self", (0, None)), ("mat2", (None, 1)))


@rule("addmm", "_addmm_activation")
def addmm(call: Call) -> Relations:
    """``self`` + (i, k) @ (k, j) -> (i, j)."""
    return _product(call, ("mat1", (0, None)), ("mat2", (None, 1)), "self")


@rule("bmm")
def bmm(call: Call) -> Relations:
    """(b, i, k) @ (b, k, j) -> (b, i, j)."""
    return _product(call, ("self", (0, 1, None)), ("mat2", (0, None, 2)))


@rule("baddbmm")
def baddbmm(call: Call) -> Relations:
    """``self`` + (b, i, k) @ (b, k, j) -> (b, i, j)."""
    return _product(call, ("batch1", (0, 1, None)), ("batch2", (0, None, 2)), "self")


@rule("addbmm")
def addbmm(call: Call) -> Relations:
    """``self`` + sum over b of (b, i, k) @ (b, k, j) -> (i, j)."""
    return _product(call, ("batch1", (1, None)), ("batch2", (None, 2)), "self")


@rule("mv")
def mv(call: Call) -> Relations:
    """(i, k) @ (k,) -> (i,)."""
    return _product(call, ("self", (0,)), ("vec", (None,)))


@rule("addmv")
def addmv(call: Call) -> Relations:
    """``self`` + (i, k) @ (k,) -> (i,)."""
    return _product(call, ("mat", (0,)), ("vec", (None,)), "self")


@rule("dot", "vdot")
def dot(call: Call) -> Relations:
    """(k,) . (k,) -> ()."""
    return _product(call, ("self", ()), ("tensor" if call.has("tensor") else "other", ()))


@rule("_trilinear")
def trilinear(call: Call) -> Relations:
    """Product of three tensors, each unsqueezed at its ``expand`` dimensions, summed over ``sumdim``."""
    relations: list[Relation] = []
    for name, expand in (("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")):
        operand, shape = call[name], list(call[name].shape)
        if call.depends(operand):
            for d in sorted(call[expand]):
                shape.insert(d, 1)
            kept = tuple(d for d in range(len(shape)) if d not in call["sumdim"])
            relations.append(Mix(operand, kept, {}, tuple(shape)))
    return relations


@rule("addr")
def addr(call: Call) -> Relations:
    """``self`` + (i,) (j,)^T -> (i, j)."""
    return _product(call, ("vec1", (0, None)), ("vec2", (None, 0)), "self")
