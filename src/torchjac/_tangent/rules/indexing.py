"""Ops that read or write at places given by an index tensor, whose values are known while tracing.

An index computed from x (argmax, sort, a mask like x > 0) could have been another one: then every place along the
indexed dimensions is taken to be possible, and the pattern still holds for every x.
"""

from __future__ import annotations

import math

import torch

from ..call import Call
from ..registry import rule
from ..relations import Everything, Mix, Move, Pointwise, Relation, Relations, Scatter, Window


def flat_places(shape: torch.Size) -> torch.Tensor:
    """The flat position of every element of a tensor of that shape."""
    return torch.arange(shape.numel()).reshape(shape)


def _everything(call: Call) -> Relations:
    return [Everything(t) for t in call.operands]


@rule("gather")
def gather(call: Call) -> Relations:
    """out[i][j] = self[index[i][j]][j] along ``dim``."""
    x, index = call["self"], call["index"]
    if not call.marked(index):
        return [Move(lambda of: call.again(of, "self"))]
    if x.dim() == 0 or index.dim() == 0:
        return _everything(call)
    dim = call["dim"] % x.dim()
    if any(i != s for d, (i, s) in enumerate(zip(index.shape, x.shape, strict=True)) if d != dim):
        return _everything(call)
    choice = call.choice(index)
    if choice == "prefix" or (isinstance(choice, Window) and choice.starts.numel() == index.shape[dim] + 1):
        return [Mix(x, tuple(range(x.dim())), {dim: choice})]
    return [Mix(x, tuple(None if d == dim else d for d in range(x.dim())))]


@rule("index_select")
def index_select(call: Call) -> Relations:
    """out[k] = self[index[k]] along ``dim``."""
    x = call["self"]
    if not call.marked(call["index"]):
        return [Move(lambda of: call.again(of, "self"))]
    if x.dim() == 0:
        return _everything(call)
    dim = call["dim"] % x.dim()
    return [Mix(x, tuple(None if d == dim else d for d in range(x.dim())))]


@rule("index")
def index(call: Call) -> Relations:
    """``self[indices]``; a None index keeps its dimension."""
    if call.marked(call["indices"]):
        return [_anywhere(call["self"], call["indices"], call.out.shape)]
    return [Move(lambda of: call.again(of, "self"))]


def _anywhere(x: torch.Tensor, indices: list[torch.Tensor | None], shape: torch.Size) -> Relation:
    """x[indices] where the indices could be any: the indexed dimensions are mixed, the others stay."""
    spans: list[tuple[bool, list[int]]] = []
    position = 0
    for i in indices:
        width = i.dim() if i is not None and i.dtype in (torch.bool, torch.uint8) else 1
        spans.append((i is not None, list(range(position, position + width))))
        position += width
    spans += [(False, [d]) for d in range(position, x.dim())]
    indexed = [k for k, (hit, _) in enumerate(spans) if hit]
    new: list[int | None] = [None] * (len(shape) - sum(not hit for hit, _ in spans))
    adjacent = indexed == list(range(indexed[0], indexed[-1] + 1))
    front = [d for _, dims in spans[: indexed[0]] for d in dims] if adjacent else []
    back = [d for hit, dims in spans for d in dims if not hit and d not in front]
    return Mix(x, (*front, *new, *back))


@rule("take", "masked_select")
def pick(call: Call) -> Relations:
    """Elements of the ravelled self by index or mask."""
    if call.marked(call["index"] if call.has("index") else call["mask"]):
        return _everything(call)
    return [Move(lambda of: call.again(of, "self"))]


@rule("embedding")
def embedding(call: Call) -> Relations:
    """out[..., :] = weight[indices[...], :]."""
    if call.marked(call["indices"]):
        return [Mix(call["weight"], (*[None] * call["indices"].dim(), 1))]
    return [Move(lambda of: of(call["weight"])[call["indices"].cpu()])]


@rule("scatter_add", "scatter", "scatter_reduce")
def scatter(call: Call) -> Relations:
    """self[index[i][j]][j] += src[i][j] along ``dim``; scatter overwrites instead, scatter.value with a number."""
    target = _places_along(call["self"].shape, call["dim"], call["index"])
    source = next((call[name] for name in ("src", "value") if call.has(name)), None)
    if call.has("include_self"):
        adds = call["include_self"]
    else:
        adds = call.has("reduce") or call.op._schema.name.startswith("aten::scatter_add")
    return _write(call, target, source, adds=adds)


@rule("put")
def put(call: Call) -> Relations:
    """The ravelled self with ``source`` written, or added, at ``index``."""
    source = call["source"]
    target = flat_places(call["self"].shape).reshape(-1)[call["index"].cpu().reshape(source.shape)]
    return _write(call, target, source, adds=bool(call["accumulate"]))


@rule("index_add", "index_copy", "index_fill", "index_reduce")
def index_add(call: Call) -> Relations:
    """``self[..., index[k], ...] += source[..., k, ...]`` along ``dim``."""
    shape, places = call["self"].shape, call["index"].cpu().long()
    at = flat_places(shape) if shape else flat_places(torch.Size((1,)))
    target = at.index_select(call["dim"], places.reshape(-1))
    source = call["source"] if call.has("source") else call["value"]
    name = call.op._schema.name
    return _write(
        call, target if shape else target.reshape(()), source, adds="index_add" in name or "index_reduce" in name
    )


@rule("index_put", "_index_put_impl", "_unsafe_index_put")
def index_put(call: Call) -> Relations:
    """``self[indices] = values``, or += when ``accumulate``."""
    indices = [None if i is None else i.cpu() for i in call["indices"]]
    target = torch.ops.aten.index(flat_places(call["self"].shape), indices)
    return _write(call, target, call["values"], adds=bool(call["accumulate"]), places=call["indices"])


@rule("masked_scatter")
def masked_scatter(call: Call) -> Relations:
    """Write the elements of ``source``, in order, at the places where ``mask`` holds."""
    x, mask, source = call["self"], call["mask"], call["source"]
    relations: list[Relation] = [Pointwise(x)] if call.depends(x) else []
    if call.marked(mask):
        return [*relations, Everything(source)] if call.depends(source) else relations
    places = flat_places(call.out.shape)[mask.cpu().expand(call.out.shape)]
    target = torch.full((source.numel(),), -1)  # of source's own shape: a reshaped source may be a copy
    target[: places.numel()] = places
    return [*relations, Scatter(source, target.reshape(source.shape), replaces=True)]


@rule("embedding_dense_backward")
def embedding_backward(call: Call) -> Relations:
    """The gradient of row r of the table collects the outputs that read it."""
    grad, indices, rows = call["grad_output"], call["indices"], call["num_weights"]
    if call.marked(indices):
        return [Mix(grad, (None, grad.dim() - 1))]
    width = grad.shape[-1]
    kept = indices.cpu().long()
    target = kept[..., None] * width + torch.arange(width)
    if call["padding_idx"] >= 0:
        target = torch.where((kept == call["padding_idx"])[..., None], -1, target)
    assert call.out.shape == (rows, width)
    return [Scatter(grad, target)]


def _places_along(shape: torch.Size, dim: int, index: torch.Tensor) -> torch.Tensor:
    """The flat places that ``scatter`` along ``dim`` writes to: of index's shape."""
    if not shape:
        return torch.zeros(index.shape, dtype=torch.int64)
    grids = list(torch.meshgrid(*[torch.arange(s) for s in index.shape], indexing="ij"))
    grids[dim % len(shape)] = index.cpu().long()
    strides = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    return torch.stack([g * s for g, s in zip(grids, strides, strict=True)]).sum(0)


def _widened(call: Call, source: torch.Tensor) -> Relation:
    """Relate the output to a ``source`` written at unknown places: along ``dim`` where others fit, else anywhere."""
    shape = call["self"].shape
    if call.has("dim") and shape and source.dim() == len(shape):
        dim = call["dim"] % len(shape)
        if all(a == b for d, (a, b) in enumerate(zip(source.shape, shape, strict=True)) if d != dim):
            return Mix(source, tuple(None if d == dim else d for d in range(len(shape))))
    return Everything(source)


def _write(call: Call, target: torch.Tensor, source: object, *, adds: bool, places: object = None) -> Relations:
    """Relate the output to ``self`` and to ``source``, a number or a tensor broadcast to ``target``, written there."""
    base, places = call["self"], call["index"] if places is None else places
    relations: list[Relation] = [Pointwise(base)] if call.depends(base) else []
    if not call.depends(source) and call.from_x(places):
        return relations
    if call.marked(places):
        return [*relations, _widened(call, source)] if call.depends(source) else relations
    if call.depends(source):
        source = source[(0,) * max(source.dim() - target.dim(), 0)]  # into one number only one is read
        where = (
            source[tuple(slice(s) for s in target.shape)] if source.dim() == target.dim() and source.dim() else source
        )
        return [*relations, Scatter(where.expand(target.shape), target, replaces=not adds)]
    if relations and not adds:  # places overwritten by a constant forget what they held
        return [
            Move(
                lambda of: (
                    of(base)
                    .expand(base.shape)
                    .clone()
                    .reshape(-1)
                    .index_fill(0, target.reshape(-1), 0)
                    .reshape(base.shape)
                )
            )
        ]
    return relations
