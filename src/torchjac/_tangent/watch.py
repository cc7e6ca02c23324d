"""Watch f while it is traced: values can leave PyTorch without an op, and what f then decides is not in the trace.

``.numpy()``, ``.tolist()``, DLPack and pointers never reach a dispatch mode, but the properties and methods that lead
to them do reach a mode one floor higher. It looks on, and changes nothing.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .._base.words import Args
from .._function.levels import innermost
from .values import ValueTrace, tensors

_T: Any = torch.Tensor

# Where values leave PyTorch, as users know these ways.
_EXITS = {
    _T.numpy: "numpy",
    _T.__array__: "numpy",
    _T.tolist: "tolist",
    _T.__dlpack__: "__dlpack__",
    _T.__deepcopy__: "deepcopy",
    _T.__cuda_array_interface__.__get__: "__cuda_array_interface__",
}
# PyTorch itself asks for these too, to compare them and not to read what is there.
_POINTERS = {
    _T.data_ptr: "data_ptr",
    _T.untyped_storage: "untyped_storage",
    _T.storage: "storage",
    _T.is_leaf.__get__: "is_leaf",
}
_OF_THE_HOUSE = ("torch", "torchjac")


class Watch(TorchFunctionMode):
    """Use as a context around f: what f takes out of PyTorch makes the trace local."""

    def __init__(self, trace: ValueTrace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_function__(self, func: Any, types: Any, args: Args = (), kwargs: dict[str, Any] | None = None) -> Any:
        way = _EXITS.get(func)
        if way is None and func in _POINTERS and not _is_of_the_house(sys._getframe(1).f_globals):
            way = _POINTERS[func]
        if way is not None and any(self._trace.is_marked(innermost(t)) for t in tensors(args)):
            self._trace.decide(way)
        return func(*args, **(kwargs or {}))


def _is_of_the_house(module: dict[str, Any]) -> bool:
    return str(module.get("__name__", "")).partition(".")[0] in _OF_THE_HOUSE
