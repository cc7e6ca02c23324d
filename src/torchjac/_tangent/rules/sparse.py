"""Products with a constant sparse matrix: the dependence is the matrix's own pattern.

Before/after: S @ x with S = [[a, 0], [b, c]]: outputs collect [{0}, {0, 1}].
"""

from __future__ import annotations

import torch

from ..call import Call
from ..registry import RULES
from ..relations import Everything, Mix, Pointwise, Relation, Relations, Window


def pattern_window(matrix: torch.Tensor) -> Window:
    """The stored entries of a sparse (m, n) matrix, as a Window from n places to m."""
    coo = matrix.detach().cpu().to_sparse_coo()
    rows, columns = coo._indices()
    return Window.of_pairs(rows, columns, matrix.shape[0])


def _through(call: Call, left: str, right: str, added: str | None) -> Relations:
    a, b = call[left], call[right]
    relations: list[Relation] = [Pointwise(call[added])] if added and call.depends(call[added]) else []
    if call.depends(a):
        relations.append(Everything(a))
    if call.depends(b):
        window = pattern_window(a)
        relations.append(Mix(b, tuple(range(b.dim())), {0: window}))
    return relations


def _for_sparse(name: str, left: str, right: str, added: str | None = None) -> None:
    dense = RULES[name]

    def either(call: Call) -> Relations | tuple[Relations, ...]:
        a, b = call[left], call[right]
        if a.layout is not torch.strided and b.layout is torch.strided and a.dim() == 2:
            return _through(call, left, right, added)
        if b.layout is not torch.strided:
            return [Everything(t) for t in call.operands]
        return dense(call)

    RULES[name] = either


_for_sparse("mm", "self", "mat2")
_for_sparse("addmm", "mat1", "mat2", "self")
_for_sparse("mv", "self", "vec")
_for_sparse("addmv", "mat", "vec", "self")
