"""What a traced computation does with values computed from x, apart from their derivatives.

Marks say which storages hold such values; a Python decision on one makes what is found hold for this x only. An index
computed from x remembers among which places it was chosen. Memory from before the trace is put back afterwards.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from .._base.words import Args
from .._matrices.notes import Note
from .call import Call, base_name, writes, written
from .journal import Journal
from .registry import HALF_FORWARD
from .relations import Along
from .rules import CHOICES, VALUE_FREE, VALUE_READERS
from .shadow import has_memory, in_memory, memory
from .source import user_line

_SELECTIONS = frozenset({"index", "masked_select"})


class ValueTrace(TorchDispatchMode):
    """Use as a context: ``mark`` the tensors of x, run f inside."""

    def __init__(self) -> None:
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

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Otherwise torch guards the dispatch from torch.compile, and imports Dynamo (1 s) at the first op."""
        return False

    def mark(self, t: torch.Tensor) -> None:
        """Let t hold values that depend on x."""
        storage = memory(t).untyped_storage()
        self._marked[storage] = self._born[storage] = True

    def is_marked(self, t: torch.Tensor) -> bool:
        """Whether t may hold values that depend on x."""
        return has_memory(t) and memory(t).untyped_storage() in self._marked

    def choice(self, index: torch.Tensor) -> Along | None:
        """Among which places ``index`` was chosen, if an op of a known kind computed it."""
        return self._choices.get(index.untyped_storage())

    def __torch_dispatch__(self, func: Any, types: Any, args: Args = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        return self.run(func, args, kwargs, tensors(args) + tensors(kwargs.values()))

    def run(self, func: Any, args: Args, kwargs: dict[str, Any], inputs: list[torch.Tensor]) -> Any:
        """Run an op whose tensor arguments are ``inputs``, and mark its results if it was given marked ones."""
        self._remember_line()
        self.protect(func, args, kwargs)
        marked = self.look(func, args, inputs)
        if any(map(torch._is_zerotensor, inputs)):
            args, kwargs = tree_map_only(torch.Tensor, in_memory, (args, kwargs))
        out = func(*args, **kwargs)
        self.settle(func, args, kwargs, out, marked)
        return out

    def protect(self, func: Any, args: Args, kwargs: dict[str, Any]) -> None:
        """Save what the op is about to overwrite, if it is older than the trace."""
        if writes(func):
            for t in written(func, args, kwargs):
                if has_memory(t) and memory(t).untyped_storage() not in self._born:
                    self.journal.save(memory(t))

    def look(self, func: Any, args: Args, inputs: list[torch.Tensor]) -> bool:
        """Whether the op is given values computed from x; notes decisions on such values."""
        if not any(map(self.is_marked, inputs)):
            return False
        name = base_name(func)
        self.names.update([name, *(f"{name} {word}" for word in args if isinstance(word, str))])
        if func.namespace not in ("aten", "prims"):
            self.foreign.add(name)
        if name in VALUE_READERS:
            self.local = True
            reason = "a value computed from x is read and may decide what runs: holds where the same is decided"
            self.note(VALUE_READERS[name], reason)
        return True

    def settle(self, func: Any, args: Args, kwargs: dict[str, Any], out: Any, marked: bool) -> None:
        """Results are new memory, and hold values computed from x if the op was given some."""
        name = base_name(func)
        marked = marked and name not in VALUE_FREE
        for t in tensors((out,)):
            if has_memory(t):
                storage = memory(t).untyped_storage()
                if not func._schema.is_mutable:
                    self._born.setdefault(storage, True)
                if marked:
                    self._marked[storage] = True
        if marked and name in _SELECTIONS and out.numel() == 0 < args[0].numel():
            self.local = True
            self.note(name, "a mask computed from x selects nothing here: what it selects elsewhere is not seen")
        if marked and name in CHOICES:
            call = Call(func, args, kwargs)
            call.out = out
            self._choices[out[1].untyped_storage()] = CHOICES[name](call)

    def note(self, op: str, reason: str, nonzeros: int = 0) -> None:
        """Remember, once for each line of the user's code, what made the result larger or local, and by how much."""
        note = Note(op, reason, self.line())
        self._costs[note] = self._costs.get(note, 0) + nonzeros

    @property
    def notes(self) -> tuple[Note, ...]:
        """What made the result larger or local, in order."""
        return tuple(replace(note, nonzeros=cost) for note, cost in self._costs.items())

    def computes_less_forward(self) -> set[str]:
        """The ops in a forward trace whose derivatives only a backward trace shows in full."""
        return self.foreign | (self.names & HALF_FORWARD)

    def line(self) -> str:
        """The user's line that is running, or whose derivative is."""
        node = torch._C._current_autograd_node()
        return user_line() or ("" if node is None else self._lines.get(node._sequence_nr(), ""))

    def _remember_line(self) -> None:
        """The line of an op is that of the node made for it just before; in the node's backward f is not running."""
        number = torch._C._autograd._get_sequence_nr() - 1
        if number not in self._lines:
            self._lines[number] = self.line()


def tensors(values: Any) -> list[torch.Tensor]:
    """The tensors among the values and in lists among them (op schemas nest no deeper)."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(t for t in value if isinstance(t, torch.Tensor))
    return found
