"""Selections: how selected tensors come about, pass through ops, and are written back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch

from .call import Call, base_name
from .carry import carry
from .chosen import PUTS, TAKES, Choosers, Chosen
from .reading import Reading
from .relations import Ids, Mix, Pointwise, Relation, Relations
from .selected import Choice, Rows
from .shadow import Shadow, has_memory, memory

Widened = Callable[[Rows, int], None]
"""Told when a selected tensor is read as all that could have been chosen, and by how much that is more."""


class SelectedShadow(Shadow):
    """Shadow memory in which a storage may hold a selected tensor instead of plain numbers."""

    def __init__(self, reading: Reading, widened: Widened) -> None:
        super().__init__(reading)
        self.selected: WeakKeyDictionary[torch.UntypedStorage, Rows] = WeakKeyDictionary()
        self._widened = widened

    def covers(self, t: torch.Tensor) -> bool:
        return super().covers(t) or self.rows(t) is not None

    def rows(self, t: torch.Tensor) -> Rows | None:
        """The selection in t's storage, if there is one."""
        if not self.selected or not has_memory(t):
            return None
        return self.selected.get(memory(t).untyped_storage())

    def places(self, t: torch.Tensor) -> Ids | None:
        """The ids of all places that t was chosen from; None where it was not chosen, or is only a part of it."""
        rows = self.rows(t)
        return None if rows is None else rows.seen_as(t)

    def read(self, t: torch.Tensor) -> Ids:
        rows = self.rows(t)
        if rows is not None and rows.is_all(t):
            return self._all_choices(rows)
        if rows is not None:
            self._flatten(t, rows)
        return super().read(t)

    def write(self, t: torch.Tensor, ids: Ids) -> None:
        rows = self.rows(t)
        if rows is not None and rows.is_all(t):
            del self.selected[t.untyped_storage()]
        elif rows is not None:
            self._flatten(t, rows)
        super().write(t, ids)

    def write_places(self, t: torch.Tensor, choice: Choice, ids: Ids) -> None:
        """Let t be chosen by ``choice`` from places with these ids."""
        storage, rows, fresh = t.untyped_storage(), self.rows(t), Rows.of(t, choice, ids)
        seen = None if rows is None or rows.choice.key != choice.key or rows.is_all(t) else rows.seen_as(t)
        if seen is not None:
            seen.copy_(ids)
        elif t.numel() * t.element_size() == storage.nbytes():
            self.cells.pop(storage, None)
            self.selected[storage] = fresh
        else:
            self.write(t, self._all_choices(fresh))

    def _flatten(self, t: torch.Tensor, rows: Rows) -> None:
        """Turn the selection in t's storage into plain numbers, because a part of it is asked for."""
        del self.selected[t.untyped_storage()]
        super().write(rows.whole(t), self._all_choices(rows))

    def all_ids(self) -> list[Ids]:
        return [*super().all_ids(), *(rows.ids for rows in self.selected.values())]

    def _all_choices(self, rows: Rows) -> Ids:
        """Each element may be any of those that it was chosen from."""
        every = self._reading.reduce(rows.ids, (rows.choice.dim,)) if rows.ids.numel() else rows.ids.new_zeros(())
        out = every.expand(rows.shape)
        if not rows.said:
            rows.said = True
            self._widened(rows, self._reading.entries(out) - self._reading.entries(rows.ids))
        return out


class Selections:
    """The ops that take by a choice, keep it, or write by it."""

    def __init__(self, shadow: SelectedShadow, choosers: Choosers, reading: Reading) -> None:
        self._shadow, self._choosers, self._reading = shadow, choosers, reading

    def take(self, call: Call, line: Callable[[], str]) -> tuple[Choice | None, Ids] | None:
        """(choice, ids of all places) of what the call takes; without a choice where it undoes another."""
        if base_name(call.op) not in TAKES or not call.depends(call["self"]) or not _is_by_x(call):
            return None
        if call.has("index") and call.choice(call["index"]) is not None:
            return None
        chosen = self._choosers.chosen(call, line())
        if chosen is None:
            return None
        undone = self._undone(call, chosen)
        if undone is not None:
            return None, undone
        ids = self._shadow.read(call["self"]).reshape(chosen.places(call["self"].shape))
        return chosen.choice, ids

    def put(self, call: Call, line: Callable[[], str]) -> Ids | None:
        """The ids of all places that the call writes to, where it writes what is not chosen, or by the same choice."""
        source = PUTS.get(base_name(call.op))
        if source is None or not call.has(source) or not call.depends(call[source]) or not _is_by_x(call):
            return None
        chosen = self._choosers.chosen(call, line())
        if chosen is None:
            return None
        base, shape = call["self"], call["self"].shape
        ids = self._written(call[source], chosen, shape)
        if ids is None:
            return None
        ids = ids.expand(chosen.places(shape)).reshape(shape)
        return self._reading.union(self._shadow.read(base).expand(shape), ids) if call.depends(base) else ids

    def _written(self, source: torch.Tensor, chosen: Chosen, shape: torch.Size) -> Ids | None:
        """The ids that each place would get, or None where it may get others than its own."""
        rows, at = self._shadow.rows(source), chosen.choice.dim
        places = chosen.places(shape)
        if rows is not None:
            ids = rows.seen_as(source)
            same = rows.choice.key == chosen.choice.key and rows.choice.dim == at
            return ids if ids is not None and same and ids.shape == places else None
        if source.dim() < len(places) - at or (source.dim() == len(places) and source.shape[at] == 1 != places[at]):
            return self._shadow.read(source)  # every place the same
        return None

    def kept(self, operands: Sequence[torch.Tensor]) -> Rows | None:
        """Return the selection of the operands, if all that are selected are so by one choice."""
        found = [rows for rows in map(self._shadow.rows, operands) if rows is not None]
        if not found or any(
            rows.choice.key != found[0].choice.key or rows.choice.dim != found[0].choice.dim for rows in found
        ):
            return None
        return found[0]

    def through(self, rows: Rows, relations: Relations, out: torch.Tensor) -> Ids | None:
        """The ids of all places of ``out``, where what was chosen stays chosen, element by element or row by row."""
        dim, chosen, many = rows.choice.dim, rows.shape[rows.choice.dim], rows.ids.shape[rows.choice.dim]
        if out.dim() <= dim or out.shape[dim] != chosen or out.is_complex():
            return None
        seen = [self._between_places(r, out, dim, (chosen, many)) for r in relations]
        if any(r is None for r in seen):
            return None
        shape = torch.Size((*out.shape[:dim], many, *out.shape[dim + 1 :]))
        return carry([r for r in seen if r is not None], shape, self._places_or_ids, self._reading)

    def _places_or_ids(self, t: torch.Tensor) -> Ids:
        places = self._shadow.places(t)
        return self._shadow.read(t) if places is None else places

    def _between_places(
        self, relation: Relation, out: torch.Tensor, dim: int, sizes: tuple[int, int]
    ) -> Relation | None:
        """The relation between all places, if it keeps the chosen dimension to itself."""
        if not isinstance(relation, (Pointwise, Mix)):
            return None
        operand = relation.operand
        selected = self._shadow.places(operand) is not None
        if not selected and self._shadow.rows(operand) is not None:
            return None
        if isinstance(relation, Pointwise):
            at = dim - (out.dim() - operand.dim())
            fits = operand.dim() == out.dim() if selected else at < 0 or operand.shape[at] == 1
            return relation if fits else None
        if not selected:
            return relation if relation.view is None and relation.dims[dim] is None else None
        if relation.dims[dim] != dim or relation.dims.count(dim) != 1 or relation.along.get(dim, "same") != "same":
            return None
        return _between_views(relation, dim, sizes)

    def _undone(self, call: Call, chosen: Chosen) -> Ids | None:
        """Return the ids of elements that are back at their places: what sorts an order undoes it."""
        rows, index = self._shadow.rows(call["self"]), chosen.choice.key
        if rows is None or index[0] != "index" or rows.choice.key[0] != "index":
            return None
        order = self._choosers.numbering.inverse(index[1])
        ids = rows.seen_as(call["self"])
        same = order is not None and order == rows.choice.key[1] and rows.choice.dim == chosen.choice.dim
        return ids if same and ids is not None and ids.shape == call.out.shape else None


def _is_by_x(call: Call) -> bool:
    """Whether the mask or index of the call was computed from x."""
    return any(call.from_x(call[name]) for name in ("indices", "mask", "index") if call.has(name))


def _between_views(relation: Mix, dim: int, sizes: tuple[int, int]) -> Mix | None:
    """A relation that may see its operand under another shape, of all rows instead of the chosen ones."""
    chosen, many = sizes
    views = [relation.view, relation.out_view]
    if views == [None, None]:
        return relation
    if dim != 0 or any(view is not None and view[0] != chosen for view in views):
        return None
    view, out_view = (None if v is None else (many, *v[1:]) for v in views)
    return replace(relation, view=view, out_view=out_view)
