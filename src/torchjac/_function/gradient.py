"""The gradient of a scalar function, as a function: its Jacobian is the Hessian.

``torch.func.grad`` is what forward-over-reverse needs. What it refuses (checkpointing, an ``autograd.Function`` without
``setup_context``) goes through ``torch.autograd.grad``, which reverse-over-reverse alone can differentiate.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch.utils import _pytree as pytree

from .._base.errors import OutputError
from .._base.words import Args
from .flat import Argnums, FlatFunction, describe, split_aux
from .normalisation import Elementary
from .subclasses import all_dressed

_TENSOR = object()  # stands where a tensor goes


class GradientOf:
    """``grad f`` of all of f's arguments, in the nesting of ``torch.func.grad``; (grad f, aux) with ``has_aux``.

    ``plain``: by ``torch.autograd.grad``.
    """

    def __init__(self, scalar: FlatFunction) -> None:
        self.scalar, self.plain = scalar, False
        self._elementary: Elementary | None = Elementary()
        self._argnums: Argnums = scalar.positions[0] if isinstance(scalar.argnums, int) else scalar.positions

    def __call__(self, *args: Any) -> Any:
        _, gradient, aux = self.with_value(args)
        return (gradient, aux) if self.scalar.has_aux else gradient

    def settle(self) -> None:
        """After f ran: where there is nothing to rewrite, do not look again."""
        if self._elementary is not None and not self._elementary.met:
            self._elementary = None

    def with_value(self, args: Args) -> tuple[torch.Tensor, Any, Any]:
        """(f, grad f, aux) at ``args``; aux is None without ``has_aux``."""
        return self._by_autograd(args) if self.plain else self._by_functions(args)

    def _run(self, args: Args) -> tuple[torch.Tensor, Any]:
        with self._elementary if self._elementary is not None else nullcontext():
            out = self.scalar.call(args)
        y, aux = split_aux(out) if self.scalar.has_aux else (out, None)
        if not isinstance(y, torch.Tensor) or y.numel() != 1 or not y.is_floating_point():
            raise OutputError(
                f"f returned {describe(y)}",
                expected="one real number in a tensor",
                why="a Hessian is the second derivative of a scalar",
                instead="return y.sum(), or the Jacobian of a function with several outputs",
            )
        return y, aux

    def _by_functions(self, args: Args) -> tuple[torch.Tensor, Any, Any]:
        others: list[Any] = []

        def scalar(*inner: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
            y, aux = self._run(all_dressed(inner, args))
            flat, spec = pytree.tree_flatten(aux)
            others[:] = [spec, [_TENSOR if isinstance(leaf, torch.Tensor) else leaf for leaf in flat]]
            return y.reshape(()), [y, *(leaf for leaf in flat if isinstance(leaf, torch.Tensor))]

        # its aux holds tensors only; what else f returns is put back in its place
        gradient, (_, (y, *tensors)) = torch.func.grad_and_value(scalar, self._argnums, has_aux=True)(*args)
        spec, rest = others
        given = iter(tensors)
        return y, gradient, pytree.tree_unflatten([next(given) if leaf is _TENSOR else leaf for leaf in rest], spec)

    def _by_autograd(self, args: Args) -> tuple[torch.Tensor, Any, Any]:
        full, positions, graph = list(args), self.scalar.positions, torch.is_grad_enabled()
        with torch.enable_grad():
            for p in positions:
                full[p] = pytree.tree_map(lambda t: t if t.requires_grad else t.detach().requires_grad_(), args[p])
            trees = [pytree.tree_flatten(full[p]) for p in positions]
            leaves = [leaf for flat, _ in trees for leaf in flat]
            y, aux = self._run(tuple(full))
            if y.requires_grad:
                found = torch.autograd.grad(
                    y.reshape(()), leaves, create_graph=graph, allow_unused=True, materialize_grads=True
                )
            else:
                found = tuple(torch.zeros_like(leaf) for leaf in leaves)
        gradients = iter(found)
        nested = tuple(pytree.tree_unflatten([next(gradients) for _ in flat], spec) for flat, spec in trees)
        return y, nested[0] if isinstance(self._argnums, int) else nested, aux
