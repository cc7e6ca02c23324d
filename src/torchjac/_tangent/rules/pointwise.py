"""out[i] from operand[i]: ops that PyTorch does not tag pointwise although they are, and ops that overwrite."""

from __future__ import annotations

from ..call import Call
from ..registry import VALUE_FREE, rule
from ..relations import Pointwise, Relations

_UNTAGGED = (
    "clone _to_copy lerp addcmul addcdiv threshold_backward tanh_backward sigmoid_backward gelu_backward "
    "silu_backward elu_backward hardtanh_backward hardsigmoid_backward hardswish_backward leaky_relu_backward "
    "log_sigmoid_backward softplus_backward mish_backward logit_backward native_dropout_backward "
    "rrelu_with_noise_backward "
    "hardshrink_backward softshrink_backward _conj_physical resolve_conj resolve_neg lift_fresh_copy "
    "mse_loss_backward smooth_l1_loss_backward huber_loss_backward binary_cross_entropy_backward contiguous "
    "view_as_real_copy view_as_complex_copy polar _masked_scale"
).split()


@rule(*_UNTAGGED)
def pointwise(call: Call) -> Relations:
    """Relate each element of the output to the same element of every operand, broadcast."""
    return [Pointwise(t) for t in call.operands]


@rule("copy", "fill")
def overwrite(call: Call) -> Relations:
    """Forget the old content of ``self``: copy_(self, src); fill_(self, value)."""
    name = "src" if call.has("src") else "value"
    return [Pointwise(call[name])] if call.depends(call[name]) else []


@rule(*sorted(VALUE_FREE))
def nothing(call: Call) -> Relations:
    """Relate the output to nothing: only the shape of the operand is used."""
    return []
