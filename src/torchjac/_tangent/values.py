"""Follow the values computed from x in a traced computation, apart from their derivatives.

Marks say which storages hold such values; a Python decision on one makes what is found hold for this x only. An index
computed from x remembers among which places it was chosen. Memory from before the trace is put back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from .._base.words import Args, Kwargs, OpResult
from .._matrices.notes import Note
from .call import Call, base_name, returns_views, writes, written
from .chosen import PUTS, TAKES, Choosers
from .journal import Journal
from .numbering import is_choice
from .registry import HALF_FORWARD
from .relations import Along
from .rules import CHOICES, VALUE_FREE, VALUE_READERS
from .shadow import has_memory, in_memory, memory
from .source import user_line

_LOOKS = frozenset({"is_same_size", "_has_same_storage_numel"})
_COUNTING = frozenset({"index", "_unsafe_index", "masked_select", "nonzero"})  # by a mask: as many as it has places
_SELECTIONS = frozenset({"index", "masked_select"})


class ValueTrace(TorchDispatchMode):
    """Use as a context: ``mark`` the tensors of x, run f inside.

    ``choosers``: remembers what is chosen by x; without it the positions where a mask holds are values that f reads.
    """

    def __init__(self, choosers: Choosers | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        self._costs: dict[Note, int] = {}
        self.local = False
        self.names: set[str] = set()  # ops given values computed from x, also with each word among their arguments
        self.foreign: set[str] = set()  # those among them that are not PyTorch's own
        self.journal = Journal()
        self._marked: WeakKeyDictionary[torch.UntypedStorage, bool] = WeakKeyDictionary()
        self._choices: WeakKeyDictionary[torch.UntypedStorage, Along] = WeakKeyDictionary()
        self._born: WeakKeyDictionary[torch.UntypedStorage, bool] = WeakKeyDictionary()
        self._lines: dict[int, str] = {}
        self.choosers = choosers
        self.others_choose = False  # whether a mask, index or decision was computed from what ``give`` was told of
        self._others: WeakKeyDictionary[torch.UntypedStorage, bool] = WeakKeyDictionary()
        self._counted: WeakKeyDictionary[torch.UntypedStorage, bool] = WeakKeyDictionary()
        self.followed: tuple[WeakKeyDictionary[torch.UntypedStorage, Any], ...] = ()  # memory that ``follow`` is for

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: otherwise torch guards the dispatch from torch.compile, and imports Dynamo (1 s)."""
        return False

    def mark(self, t: torch.Tensor) -> None:
        """Note that t holds values that depend on x."""
        storage = memory(t).untyped_storage()
        self._marked[storage] = self._born[storage] = True

    def give(self, t: torch.Tensor) -> None:
        """Let t be an argument that is not part of x, and may be another in the next call."""
        if has_memory(t):
            self._others[memory(t).untyped_storage()] = True

    def is_given(self, t: torch.Tensor) -> bool:
        """Whether t may hold values that depend on what ``give`` was told of."""
        return has_memory(t) and memory(t).untyped_storage() in self._others

    def is_marked(self, t: torch.Tensor) -> bool:
        """Whether t may hold values that depend on x."""
        return has_memory(t) and memory(t).untyped_storage() in self._marked

    def choice(self, index: torch.Tensor) -> Along | None:
        """Return the places among which ``index`` was chosen, if an op of a known kind computed it."""
        return self._choices.get(index.untyped_storage())

    def __torch_dispatch__(
        self, func: torch._ops.OpOverload, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> OpResult:
        kwargs = kwargs or {}
        if asks_nothing(func):
            return func(*args, **kwargs)
        inputs = tensors(args) + tensors(kwargs.values()) if kwargs else tensors(args)
        if self.followed and any(storage in kept for storage in storages(inputs) for kept in self.followed):
            return self.follow(func, args, kwargs, inputs)
        return self.run(func, args, kwargs, inputs)

    def follow(self, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs, inputs: list[torch.Tensor]) -> OpResult:
        """Run an op that is given memory of one of ``followed``."""
        return self.run(func, args, kwargs, inputs)

    def run(self, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs, inputs: list[torch.Tensor]) -> OpResult:
        """Run an op whose tensor arguments are ``inputs``, and mark its results if it was given marked ones."""
        number = torch._C._autograd._get_sequence_nr() - 1  # of the node made for an op just before
        if number not in self._lines:  # in the backward of that node f is not running
            self._lines[number] = self.line()
        if writes(func):
            self._protect(func, args, kwargs)
        given = storages(inputs)
        marked = any(storage in self._marked for storage in given)
        if marked:
            self._look(func, args, inputs)
        if any(map(torch._is_zerotensor, inputs)):
            args, kwargs = tree_map_only(torch.Tensor, in_memory, (args, kwargs))
        out = func(*args, **kwargs)
        outs = tensors((out,))
        if marked and base_name(func) not in VALUE_FREE:
            self._mark_results(func, args, kwargs, out, outs)
        elif not func._schema.is_mutable:
            for storage in storages(outs):
                self._born.setdefault(storage, True)
        if self._others and any(storage in self._others for storage in given):
            self._pass_on(func, outs)
        return out

    def _pass_on(self, func: Any, outs: list[torch.Tensor]) -> None:
        """Results of what was given; masks and indices among them choose."""
        name = base_name(func)
        if name in VALUE_FREE:
            return
        for t in outs:
            self.give(t)
        chooses = any(is_choice(t) or t.layout is not torch.strided for t in outs)
        self.others_choose |= chooses or name in VALUE_READERS or "grid_sampler" in name

    def _protect(self, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs) -> None:
        """Save what the op is about to overwrite, if it is older than the trace."""
        for t in written(func, args, kwargs):
            if has_memory(t) and memory(t).untyped_storage() not in self._born:
                self.journal.save(memory(t))
            if self.choosers is not None and has_memory(t):
                self.choosers.numbering.wrote(t)

    def _look(self, func: torch._ops.OpOverload, args: Args, inputs: list[torch.Tensor]) -> None:
        """Note decisions on values computed from x, which the op is given."""
        name = base_name(func)
        self.names.update([name, *(f"{name} {word}" for word in args if isinstance(word, str))])
        if func.namespace not in ("aten", "prims"):
            self.foreign.add(name)
        if name in VALUE_READERS and not (name == "nonzero" and self.choosers is not None):
            self.decide(VALUE_READERS[name])
        if self.choosers is not None and self.choosers.found_at and not returns_views(func):
            self._look_for_positions(name, inputs, args)

    def _look_for_positions(self, name: str, inputs: list[torch.Tensor], args: Args) -> None:
        """Positions where a mask holds may choose; an op that computes with them reads them."""
        assert self.choosers is not None
        for t in inputs:
            positions = self.choosers.positions(t)
            if positions is not None and (t is args[0] or name not in (*TAKES, *PUTS)):
                self.decide("nonzero", positions.line)

    def is_counted(self, t: torch.Tensor) -> bool:
        """Whether how many elements t has depends on x."""
        return has_memory(t) and memory(t).untyped_storage() in self._counted

    def _count(self, name: str, args: Args, kwargs: dict[str, Any], outs: list[torch.Tensor]) -> None:
        """Remember which results have as many elements as a mask has places."""
        given = tensors(args) + tensors(kwargs.values()) + [t for a in args if isinstance(a, list) for t in tensors(a)]
        fixed = {t.shape for t in given if not self.is_counted(t)}
        made = name in _COUNTING and any(t.dtype in (torch.bool, torch.uint8) or name == "nonzero" for t in given)
        if made or any(map(self.is_counted, given)):
            for t in outs:
                if has_memory(t) and t.dim() and (made or t.shape not in fixed):
                    self._counted[memory(t).untyped_storage()] = True

    def decide(self, op: str, line: str | None = None) -> None:
        """A value computed from x leaves PyTorch by ``op``: what comes after may be for this x only."""
        self.local = True
        reason = "a value computed from x is read and may decide what runs: holds where the same is decided"
        self.note(op, reason, line=line)

    def _mark_results(
        self, func: torch._ops.OpOverload, args: Args, kwargs: Kwargs, out: OpResult, outs: list[torch.Tensor]
    ) -> None:
        """Note that results are new memory and hold values computed from x."""
        name, new = base_name(func), not func._schema.is_mutable
        for storage in storages(outs):
            if new:
                self._born.setdefault(storage, True)
            self._marked[storage] = True
        if new and self.choosers is not None and not all(t.is_floating_point() for t in outs):
            self.choosers.numbering.made(func, args, kwargs, outs)
            if name == "nonzero":
                self.choosers.found(out, args[0], self.line())
        if self.choosers is None and name in _SELECTIONS and outs[0].numel() == 0 < args[0].numel():
            self.local = True
            self.note(name, "a mask computed from x selects nothing here: what it selects elsewhere is not seen")
        if name in _COUNTING or self._counted:
            self._count(name, args, kwargs, outs)
        if name in CHOICES:
            call = Call(func, args, kwargs)
            call.out = out
            self._choices[out[1].untyped_storage()] = CHOICES[name](call)

    def note(self, op: str, reason: str, nonzeros: int = 0, line: str | None = None) -> None:
        """Remember, once for each line of the user's code, what made the result larger or local, and by how much."""
        note = Note(op, reason, self.line() if line is None else line)
        self._costs[note] = self._costs.get(note, 0) + nonzeros

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes of what made the result larger or local, in order."""
        return tuple(replace(note, nonzeros=cost) for note, cost in self._costs.items())

    def computes_less_forward(self) -> set[str]:
        """Return the ops in a forward trace whose derivatives only a backward trace shows in full."""
        return self.foreign | (self.names & HALF_FORWARD)

    def line(self) -> str:
        """Return the user's line that is running, or whose derivative is being computed."""
        node = torch._C._current_autograd_node()
        return user_line() or ("" if node is None else self._lines.get(node._sequence_nr(), ""))


def storages(given: Iterable[torch.Tensor]) -> list[torch.UntypedStorage]:
    """Return the memory of the tensors; symbolic zeros and tensors on the meta device have none."""
    return [
        (t if t.layout is torch.strided else memory(t)).untyped_storage()
        for t in given
        if not torch._is_zerotensor(t) and t.device.type != "meta"
    ]


@cache
def asks_nothing(func: torch._ops.OpOverload) -> bool:
    """Whether an op compares the looks of tensors and no values: PyTorch asks so at every op under forward mode."""
    return base_name(func) in _LOOKS


def tensors(values: Iterable[object]) -> list[torch.Tensor]:
    """Return the tensors among the values and in lists among them (op schemas nest no deeper)."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(t for t in value if isinstance(t, torch.Tensor))
    return found
