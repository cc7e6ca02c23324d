"""The gradient of a scalar function, as a function: its Jacobian is the Hessian.

``torch.func.grad`` is what forward-over-reverse needs. What it refuses (checkpointing, an ``autograd.Function`` without
``setup_context``) goes through ``torch.autograd.grad``, which reverse-over-reverse alone can differentiate.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext

import torch
from torch.utils import _pytree as pytree
from torch.utils._pytree import PyTree

from .._base.errors import OutputError
from .._base.words import Args
from .flat import Argnums, FlatFunction
from .kernels import with_reference_kernels
from .leaves import describe, split_aux
from .normalisation import ElementaryNormalisations
from .subclasses import all_dressed

_TENSOR = object()  # stands where a tensor goes


class GradientOf:
    """The function ``grad f``, in the nesting of ``torch.func.grad``; with ``has_aux`` it returns (grad f, aux).

    ``plain``: by ``torch.autograd.grad``. ``reference``: f runs on kernels that can be differentiated twice.
    """

    def __init__(self, scalar: FlatFunction, plain: bool = False, reference: bool = False) -> None:
        self.scalar, self.plain, self.reference = scalar, plain, reference
        self._elementary: ElementaryNormalisations | None = ElementaryNormalisations()
        self._argnums: Argnums = scalar.positions[0] if isinstance(scalar.argnums, int) else scalar.positions

    def __call__(self, *args: PyTree) -> PyTree:
        _, gradient, aux = self.with_value(args)
        return (gradient, aux) if self.scalar.has_aux else gradient

    def settled(self) -> GradientOf:
        """Return this gradient once f ran: where there is nothing to rewrite, it does not look again."""
        other = copy.copy(self)
        if self._elementary is not None and not self._elementary.met:
            other._elementary = None
        return other

    def by_autograd(self) -> GradientOf:
        """Return this gradient computed by ``torch.autograd.grad``."""
        other = copy.copy(self)
        other.plain = True
        return other

    def with_reference_kernels(self) -> GradientOf:
        """Return this gradient of f on kernels that can be differentiated twice."""
        return GradientOf(self.scalar.running(with_reference_kernels(self.scalar.f)), self.plain, True)

    def with_value(self, args: Args) -> tuple[torch.Tensor, PyTree, PyTree]:
        """The triple (f, grad f, aux) at ``args``; aux is None without ``has_aux``."""
        return self._by_autograd(args) if self.plain else self._by_functions(args)

    def _run(self, args: Args) -> tuple[torch.Tensor, PyTree]:
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

    def _by_functions(self, args: Args) -> tuple[torch.Tensor, PyTree, PyTree]:
        others: list[tuple[pytree.TreeSpec, list[object]]] = []

        def scalar(*inner: PyTree) -> tuple[torch.Tensor, list[torch.Tensor]]:
            y, aux = self._run(all_dressed(inner, args))
            flat, spec = pytree.tree_flatten(aux)
            others[:] = [(spec, [_TENSOR if isinstance(leaf, torch.Tensor) else leaf for leaf in flat])]
            return y.reshape(()), [y, *(leaf for leaf in flat if isinstance(leaf, torch.Tensor))]

        # its aux holds tensors only; what else f returns is put back in its place
        gradient, (_, (y, *tensors)) = torch.func.grad_and_value(scalar, self._argnums, has_aux=True)(*args)
        ((spec, rest),) = others
        given = iter(tensors)
        return y, gradient, pytree.tree_unflatten([next(given) if leaf is _TENSOR else leaf for leaf in rest], spec)

    def _by_autograd(self, args: Args) -> tuple[torch.Tensor, PyTree, PyTree]:
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
