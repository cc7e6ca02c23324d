"""An ``nn.Module`` as a function of its parameters."""

from __future__ import annotations

import difflib

import torch
from torch.utils._pytree import PyTree

from .._base.errors import InputError
from .._base.words import UserFunction

Parameters = dict[str, torch.Tensor]


def functional(module: torch.nn.Module) -> tuple[UserFunction, Parameters]:
    """Return (f, params) such that ``f(params, *inputs)`` is ``module(*inputs)``: for Jacobians by parameters.

    >>> import torch, torchjac as tj
    >>> f, params = tj.functional(torch.nn.Linear(3, 2))
    >>> J = tj.jacobian(f, params, torch.rand(5, 3))
    >>> {name: tuple(block.shape) for name, block in J.items()}
    {'weight': (5, 2, 2, 3), 'bias': (5, 2, 2)}

    ``params`` are the module's parameters, detached, in the order of ``module.named_parameters()``. f takes any part of
    them; the rest is the module's own, as it is when f is called. f leaves the module as it is: in training mode the
    statistics of a BatchNorm are computed and dropped. It is ``torch.func.functional_call`` underneath.

    Raises
    ------
    InputError: (of f) the module has no parameter of a name.
    """
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"functional({type(module).__name__})", expected="a torch.nn.Module")
    known = [name for name, _ in module.named_parameters(remove_duplicate=False)]

    def call(params: Parameters, *inputs: PyTree, **keywords: PyTree) -> PyTree:
        for name in params:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise InputError(
                    f"{type(module).__name__} has no parameter {name!r}",
                    expected=f"some of {', '.join(map(repr, known))}",
                    instead=repr(near[0]) if near else "",
                )
        state = dict(params)
        if module.training:
            state |= {name: buffer.clone() for name, buffer in module.named_buffers()}
        return torch.func.functional_call(module, state, inputs, keywords)

    return call, {name: parameter.detach() for name, parameter in module.named_parameters()}
