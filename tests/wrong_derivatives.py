"""Custom functions whose derivatives are wrong, hidden, or only once there: what PyTorch refuses, or gets wrong."""

from __future__ import annotations

import torch


class Exp(torch.autograd.Function):
    """exp, with what its subclasses get wrong."""

    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)


class OnceOnly(Exp):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]

    @staticmethod
    def jvp(ctx, t):
        return t * ctx.saved_tensors[0]


class WrongForward(OnceOnly):
    @staticmethod
    def jvp(ctx, t):
        return 2 * t * ctx.saved_tensors[0]


class Hidden(Exp):
    """A backward that hides from its own derivative, and no forward mode."""

    @staticmethod
    def backward(ctx, g):
        return torch.from_numpy(g.detach().numpy() * ctx.saved_tensors[0].detach().numpy())


def is_batch(t):
    return torch._C._functorch.is_batchedtensor(t) or torch._C._functorch.is_legacy_batchedtensor(t)


class WrongBatches(Exp):
    @staticmethod
    def backward(ctx, g):
        return (2 if is_batch(g) else 1) * g * ctx.saved_tensors[0]
