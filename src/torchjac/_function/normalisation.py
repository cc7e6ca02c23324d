"""Normalisations by their definition, because PyTorch's third derivatives of its fused kernels are wrong.

The second derivative of ``native_layer_norm`` and ``native_batch_norm`` is a formula of the saved mean and deviation,
and PyTorch takes these for constants when it is differentiated once more. Values of Hessians are right, gradients of
them are not. Group norm is not affected, nor is batch norm with given statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .._base.words import Args, UserFunction

Maybe = torch.Tensor | None


class ElementaryNormalisations(TorchFunctionMode):
    """Inside the block, normalisations run as means and products; ``met`` says whether there were any."""

    def __init__(self) -> None:
        super().__init__()
        self.met = False

    def __torch_function__(
        self, func: UserFunction, types: object, args: Args = (), kwargs: dict[str, object] | None = None
    ) -> object:
        replacement = _DEFINITIONS.get(func)
        if replacement is None:
            return func(*args, **(kwargs or {}))
        self.met = True
        return replacement(*args, **(kwargs or {}))


def _layer_norm(
    x: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: Maybe = None,
    bias: Maybe = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> torch.Tensor:
    y = _standardised(x, tuple(range(x.dim() - len(normalized_shape), x.dim())), eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _batch_norm(
    x: torch.Tensor,
    running_mean: Maybe,
    running_var: Maybe,
    weight: Maybe = None,
    bias: Maybe = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    if running_mean is not None:
        with torch.no_grad():  # it updates the statistics
            F.batch_norm(x.detach(), running_mean, running_var, None, None, True, momentum, eps)
    return _affine(_standardised(x, tuple(d for d in range(x.dim()) if d != 1), eps), weight, bias)


def _instance_norm(
    x: torch.Tensor,
    running_mean: Maybe = None,
    running_var: Maybe = None,
    weight: Maybe = None,
    bias: Maybe = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    if not use_input_stats:
        return F.instance_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    if running_mean is not None:
        with torch.no_grad():
            F.instance_norm(x.detach(), running_mean, running_var, None, None, True, momentum, eps)
    return _affine(_standardised(x, tuple(range(2, x.dim())), eps), weight, bias)


def _standardised(x: torch.Tensor, dims: tuple[int, ...], eps: float) -> torch.Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * ((centred * centred).mean(dims, keepdim=True) + eps).rsqrt()


def _affine(x: torch.Tensor, weight: Maybe, bias: Maybe) -> torch.Tensor:
    shape = (-1, *[1] * (x.dim() - 2))
    x = x if weight is None else x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


_DEFINITIONS: dict[UserFunction, Callable[..., torch.Tensor]] = {
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    torch.batch_norm: lambda x, weight, bias, mean, var, *rest: _batch_norm(x, mean, var, weight, bias, *rest),
    F.instance_norm: _instance_norm,
    torch.instance_norm: lambda x, weight, bias, mean, var, *rest: _instance_norm(x, mean, var, weight, bias, *rest),
}
