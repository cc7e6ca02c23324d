"""Watch f while it is traced: values can leave PyTorch without an op, and what f then decides is not in the trace.

``.numpy()``, ``.tolist()``, DLPack and pointers never reach a dispatch mode, but the properties and methods that lead
to them do reach a mode one floor higher. It looks on, and changes nothing.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .._base.words import Args
from .._function import levels
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
# How many places a mask has is a value too.
_COUNTS = {
    _T.shape.__get__: "shape",
    _T.size: "size",
    _T.numel: "numel",
    _T.nelement: "numel",
    _T.__len__: "len",
    _T.__iter__: "iter",
}
_WAYS = _EXITS | _POINTERS | _COUNTS
_BETWEEN = ("torch._tensor", "torch.overrides", levels.__name__)  # methods written in Python, and another mode
_OF_THE_HOUSE = ("torch", "torchjac")


class Watch(TorchFunctionMode):
    """Use as a context around f: what f takes out of PyTorch makes the trace local."""

    def __init__(self, trace: ValueTrace) -> None:
        super().__init__()
        self._trace = trace

    def __torch_function__(self, func: Any, types: Any, args: Args = (), kwargs: dict[str, Any] | None = None) -> Any:
        if func in _WAYS:
            self._look(func, args, _is_of_the_house(sys._getframe(1)))
        return func(*args, **(kwargs or {}))

    def _look(self, func: Any, args: Args, by_the_house: bool) -> None:
        trace, given = self._trace, [levels.innermost(t) for t in tensors(args)]
        if func in _COUNTS:
            if not by_the_house and any(map(trace.is_counted, given)):
                trace.decide(_COUNTS[func])
        elif func in _EXITS or not by_the_house:
            trace.others_choose |= any(map(trace.is_given, given))
            if any(map(trace.is_marked, given)):
                trace.decide(_WAYS[func])


def _is_of_the_house(frame: FrameType | None) -> bool:
    """Whether it is PyTorch that asks."""
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    return frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in _OF_THE_HOUSE
