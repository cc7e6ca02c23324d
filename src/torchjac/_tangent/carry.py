"""Carry ids through relations, by the methods of a reading."""

from __future__ import annotations

import torch

from .reading import Reading
from .relations import Everything, Ids, Mix, Move, Of, Pointwise, Relation, Relations, Scatter


def carry(relations: Relations, shape: torch.Size, of: Of, reading: Reading) -> Ids:
    """Return the ids of an output of ``shape`` under all ``relations`` together; ``of`` gives the ids of an operand."""
    ids: Ids | None = None
    for relation in relations:
        if isinstance(relation, Scatter):
            ids = _scatter(relation, ids, shape, of, reading)
        else:
            new = _one(relation, shape, of, reading)
            ids = new if ids is None else reading.union(ids, new)
    return torch.zeros((), dtype=torch.int64).expand(shape) if ids is None else ids.expand(shape)


def _one(relation: Relation, shape: torch.Size, of: Of, reading: Reading) -> Ids:
    match relation:
        case Pointwise(operand):
            return of(operand)
        case Move(run):
            return run(of)
        case Mix():
            return _mix(relation, shape, of, reading)
        case Everything(operand):
            ids = of(operand)
            return reading.reduce(ids.reshape(-1), (0,)).reshape(()) if ids.numel() else ids.new_zeros(())
    raise AssertionError(f"unknown relation {relation!r}")


def _mix(mix: Mix, shape: torch.Size, of: Of, reading: Reading) -> Ids:
    ids = of(mix.operand)
    if mix.view is not None:
        ids = ids.reshape(mix.view)
    out_view = shape if mix.out_view is None else torch.Size(mix.out_view)
    if ids.numel() == 0:
        return torch.zeros((), dtype=torch.int64).expand(shape)
    kept = [d for d in mix.dims if d is not None]
    reduced = [d for d in range(ids.dim()) if d not in kept or mix.along.get(d) == "all"]
    ids = reading.reduce(ids, reduced) if reduced else ids
    for dim, along in mix.along.items():
        if along not in ("same", "all") and dim in kept:
            ids = reading.mix(ids, dim, along)
    ids = ids.permute([*kept, *(d for d in range(ids.dim()) if d not in kept)])
    ids = ids.flatten(len(kept))[..., 0] if ids.dim() > len(kept) else ids
    for position, d in enumerate(mix.dims):
        if d is None:
            ids = ids.unsqueeze(position)
    return ids.expand(out_view).reshape(shape)


def _scatter(relation: Scatter, base: Ids | None, shape: torch.Size, of: Of, reading: Reading) -> Ids:
    source, target = of(relation.operand).reshape(-1), relation.target.reshape(-1)
    collected = reading.collect(source, target, shape.numel()).reshape(shape)
    if base is None:
        return collected
    if relation.replaces:
        base = base.expand(shape).reshape(-1).clone()
        base[target[target >= 0]] = 0
        base = base.reshape(shape)
    return reading.union(base, collected)
