"""VJPs: f runs once, then the cotangents are batched through its backward.

Plain autograd runs f as it is, and takes half the time of ``torch.func.vjp`` where f is small. The latter is for what
is itself inside a transform of ``torch.func``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch

from .._base.words import Args
from .._function.flat import FlatFunction
from .ravel import to_flat, to_leaves


class Reverse:
    """J at ``args``, by reverse mode: ``batch(seeds)`` is ``seeds @ J``, (k, m) -> (k, n)."""

    def __init__(self, function: FlatFunction, args: Args, plain: bool = False, graph: bool = False) -> None:
        self._function = function
        leaves, flat = (args, function.direct) if function.all_bare else function.opened(args)
        self._pull = _PlainPull(flat, leaves, graph) if plain else _FunctionalPull(flat, leaves)
        self.leaves = self._pull.leaves  # by which it differentiates: those of args, or copies

    @cached_property
    def value(self) -> torch.Tensor:
        """f(x), (m,)."""
        return to_flat(self._pull.outputs, self._function.outputs, self._function.dtype)

    @property
    def differentiable(self) -> bool:
        """Whether somebody may differentiate products: by what f was given, or by parameters that it brings along."""
        return self._pull.graph

    def one(self, u: torch.Tensor) -> torch.Tensor:
        """J^T u, (m,) -> (n,)."""
        inputs, outputs = self._function.inputs, self._function.outputs
        if len(inputs) == len(outputs) == 1 and inputs[0].dtype == outputs[0].dtype:  # nothing to cut or to join
            return self._pull((u.reshape(outputs[0].shape),))[0].reshape(-1)
        return to_flat(self._pull(to_leaves(u, outputs)), inputs, self._function.dtype)

    def batch(self, seeds: torch.Tensor) -> torch.Tensor:
        """J^T u for every row u of ``seeds``: (k, m) -> (k, n)."""
        out: torch.Tensor = torch.vmap(self.one, randomness="same")(seeds)
        return out


class _FunctionalPull:
    def __init__(self, flat: Any, leaves: tuple[torch.Tensor, ...]) -> None:
        self.leaves = leaves
        pair: Any = torch.func.vjp(flat, *leaves)
        self.outputs, self._vjp = pair
        # without somebody to differentiate J by, a graph of the backward would only cost memory
        self.graph = torch.is_grad_enabled() and any(t.requires_grad for t in self.outputs)

    def __call__(self, cotangents: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        gradients: tuple[torch.Tensor, ...] = self._vjp(cotangents, create_graph=self.graph)
        return gradients


class _PlainPull:
    def __init__(self, flat: Any, leaves: tuple[torch.Tensor, ...], graph: bool) -> None:
        self.graph = torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves)
        # f may know a leaf, or what was made of it, from elsewhere too: only what it is given here counts
        self.leaves = tuple(
            leaf.view_as(leaf) if leaf.requires_grad and self.graph else leaf.detach().requires_grad_()
            for leaf in leaves
        )
        with torch.enable_grad():
            self.outputs = flat(*self.leaves)
        if not self.graph:
            self.graph = graph or (torch.is_grad_enabled() and bool(closed_over(self.outputs, self.leaves)))

    def __call__(self, cotangents: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        reached = [(t, u) for t, u in zip(self.outputs, cotangents, strict=True) if t.requires_grad]
        if not reached:
            return tuple(torch.zeros_like(leaf) for leaf in self.leaves)
        outputs, seeds = zip(*reached, strict=True)
        create_graph = self.graph and torch.is_grad_enabled()
        gradients = torch.autograd.grad(
            outputs, self.leaves, seeds, retain_graph=True, create_graph=create_graph, allow_unused=True
        )
        return tuple(torch.zeros_like(leaf) if g is None else g for leaf, g in zip(self.leaves, gradients, strict=True))


def closed_over(outputs: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors beside ``leaves`` that require grad and that the graph of the outputs reaches: f's parameters."""
    known = {id(leaf) for leaf in leaves}
    seen = {leaf.grad_fn for leaf in leaves if leaf.grad_fn is not None}  # what lies behind a leaf is not f's
    todo, found = [t.grad_fn for t in outputs if t.grad_fn is not None], []
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable") and id(node.variable) not in known:
            found.append(node.variable)
        todo.extend(parent for parent, _ in node.next_functions if parent is not None)
    return found
