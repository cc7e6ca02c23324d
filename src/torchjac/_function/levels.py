"""Inside transforms of ``torch.func``, f sees and does what it would under plain autograd.

There a tensor with a derivative is a wrapper that says ``requires_grad=False`` in forward mode, and a module that is
moved to where it is already ends the process: its parameters are assigned wrappers of themselves. So properties are
answered as reverse mode would, and conversions and ``.data`` of tensors from outside stay outside.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from .._base.words import Args

_functorch = torch._C._functorch


def innermost(t: torch.Tensor) -> torch.Tensor:
    """The tensor with memory behind all wrappers of ``torch.func``: t itself, if there are none."""
    while _functorch.is_functorch_wrapped_tensor(t):
        t = _functorch.get_unwrapped(t)
    return t


class Levels(TorchFunctionMode):
    """The mode that answers as reverse mode would; ``answered``: whether f asked anything of that kind."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = False

    def __torch_function__(self, func: Any, types: Any, args: Args = (), kwargs: dict[str, Any] | None = None) -> Any:
        answer = _ANSWERS.get(func)
        if answer is None:
            return func(*args, **(kwargs or {}))
        self.answered = True
        return answer(func, args, kwargs or {})


def _requires_grad(func: Any, args: Args, kwargs: dict[str, Any]) -> bool:
    return bool(func(*args)) or _is_dual(args[0])


def _is_leaf(func: Any, args: Args, kwargs: dict[str, Any]) -> bool:
    return bool(func(*args)) and not _is_dual(args[0])


def _is_dual(t: torch.Tensor) -> bool:
    return t.is_floating_point() and forward_ad.unpack_dual(t).tangent is not None


def _outside(func: Any, args: Args, kwargs: dict[str, Any]) -> Any:
    """A conversion of a tensor from outside: that which changes nothing returns the tensor itself."""
    given = (*args, *kwargs.values())
    if any(isinstance(t, torch.Tensor) and _functorch.is_functorch_wrapped_tensor(t) for t in given):
        return func(*args, **kwargs)
    with _no_levels():
        return func(*args, **kwargs)


def _set_data(func: Any, args: Args, kwargs: dict[str, Any]) -> None:
    """``t.data = value`` takes the numbers, and no derivative, whatever wraps them."""
    t, value = args
    if _functorch.is_functorch_wrapped_tensor(t):
        func(t, value)
        return
    while _functorch.is_functorch_wrapped_tensor(value):
        if _functorch.is_batchedtensor(value):
            raise RuntimeError("f sets the .data of a tensor from outside to something that is batched")
        value = _functorch.get_unwrapped(value)
    with _no_levels():
        func(t, value)


def _no_levels() -> AbstractContextManager[object]:
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    return temporarily_clear_interpreter_stack()


_CONVERSIONS = ("to", "type", "float", "double", "half", "bfloat16", "cpu", "cuda", "xpu")

_ANSWERS: dict[Any, Callable[[Any, Args, dict[str, Any]], Any]] = {
    torch.Tensor.requires_grad.__get__: _requires_grad,  # type: ignore[attr-defined]  # a bool, as its stub has it
    torch.Tensor.is_leaf.__get__: _is_leaf,  # type: ignore[attr-defined]  # the same
    torch.Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]  # the same
    **{getattr(torch.Tensor, name): _outside for name in _CONVERSIONS},
}
