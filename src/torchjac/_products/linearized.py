"""The derivative of f at one point, as a linear map: f runs once, then both products walk through the kept graph.

J^T u is a walk back from the outputs. It is linear in u, so that J v is a walk back through *its* graph, from J^T u to
u: the double-backward identity (Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6 (1994),
in its general form). Unlike forward mode it evaluates f no more.

Neither the formulas of forward mode nor those of this identity have right derivatives throughout (LayerNorm's take its
mean for a constant). So the gradient of J v is never theirs: for a cotangent g it is that of (J^T g).v, by reverse over
reverse, and that of J^T u is that of (J^T u).g.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch.autograd.function import FunctionCtx
from torch.utils import _pytree as pytree

from .._base.words import Args
from .._function.flat import FlatFunction
from .reverse import Reverse, closed_over


class Linearized:
    """The products with J at ``args`` by reverse mode alone, which may be differentiated where grad mode is on."""

    def __init__(self, function: FlatFunction, args: Args) -> None:
        self._function, self._gate = function, _Gate()
        self._given = [t for t in pytree.tree_leaves(args) if isinstance(t, torch.Tensor) and t.requires_grad]
        with torch.enable_grad():
            behind = {id(t): _through(t, self._gate) for t in self._given}
            args = pytree.tree_map(lambda t: behind.get(id(t), t), args)
            self._reverse = Reverse(function, args, plain=True, graph=True)
        self._behind = [behind[id(t)] for t in self._given]
        self.parameters = closed_over([self._reverse.value], [*self._reverse.leaves, *self._behind])

    def depends(self, seeds: torch.Tensor) -> bool:
        """Tell whether somebody may differentiate products with ``seeds``."""
        return torch.is_grad_enabled() and bool(seeds.requires_grad or self._given or self.parameters)

    def differentiable(self, products: torch.Tensor, seeds: torch.Tensor, transposed: bool) -> torch.Tensor:
        """Return ``products``, J v or (transposed) J^T v for every row v of ``seeds``, with their graph.

        This graph is not the one that is kept here, which a ``backward()`` would free.
        """
        if len(seeds) == 0:
            return products
        sources = [*self._given, *self.parameters]
        out: torch.Tensor = _Products.apply(self, transposed, products, seeds, *sources)  # type: ignore[no-untyped-call]  # torch's
        return out

    def gradients(self, cotangents: torch.Tensor, seeds: torch.Tensor, transposed: bool) -> list[torch.Tensor | None]:
        """Return the gradients of products with ``seeds``: by the seeds, by the arguments, by f's parameters."""
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            own = _through(seeds, self._gate) if seeds.requires_grad else seeds.detach().requires_grad_()
            left, right = (own, cotangents) if transposed else (cotangents, own)
            total = torch.stack([(self.vjp(u) * v).sum() for u, v in zip(left, right, strict=True)]).sum()
        sources = [own, *self._behind, *self.parameters]
        with self._gate:
            found = torch.autograd.grad(total, sources, create_graph=create_graph, retain_graph=True, allow_unused=True)
        return list(found)

    def vjp(self, u: torch.Tensor) -> torch.Tensor:
        """Return J^T u, (m,) -> (n,)."""
        return self._reverse.one(u)

    def vjps(self, seeds: torch.Tensor) -> torch.Tensor:
        """Return J^T u for every row u of ``seeds``, at once: (k, m) -> (k, n)."""
        return self._reverse.batch(seeds)

    def jvp(self, v: torch.Tensor) -> torch.Tensor:
        """Return J v, (n,) -> (m,)."""
        return self._twice(v, batched=False)

    def jvps(self, seeds: torch.Tensor) -> torch.Tensor:
        """Return J v for every row v of ``seeds``, at once: (k, n) -> (k, m)."""
        return self._twice(seeds, batched=True)

    def _twice(self, seeds: torch.Tensor, batched: bool) -> torch.Tensor:
        u, pulled = self._pulled
        if not pulled.requires_grad:  # no output reads an input
            return seeds.new_zeros((*seeds.shape[:-1], self._function.m))
        (out,) = torch.autograd.grad(
            pulled,
            u,
            seeds,
            retain_graph=True,
            create_graph=torch.is_grad_enabled(),
            allow_unused=True,
            is_grads_batched=batched,
        )
        return seeds.new_zeros((*seeds.shape[:-1], self._function.m)) if out is None else out

    @cached_property
    def _pulled(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The pair (u, J^T u) with a graph between them; u is not zero, where formulas may not be smooth."""
        function = self._function
        with torch.enable_grad():
            u = torch.ones(function.m, dtype=function.dtype, device=function.device, requires_grad=True)
            return u, self._reverse.one(u)


class _Gate:
    """A gate where gradients end, inside its block: what lies behind f's arguments belongs to somebody else's graph.

    A parameter of f may also be behind an argument; what reaches it through that argument is not to be counted twice.
    """

    shut = False

    def __enter__(self) -> None:
        self.shut = True

    def __exit__(self, *_: object) -> None:
        self.shut = False


class _ThroughContext(FunctionCtx):
    gate: _Gate


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _ThroughContext, x: torch.Tensor, gate: _Gate) -> torch.Tensor:
        ctx.gate = gate
        return x.view_as(x)

    @staticmethod
    def backward(ctx: _ThroughContext, grad: torch.Tensor) -> tuple[torch.Tensor | None, None]:
        return None if ctx.gate.shut else grad, None


def _through(x: torch.Tensor, gate: _Gate) -> torch.Tensor:
    out: torch.Tensor = _Through.apply(x, gate)  # type: ignore[no-untyped-call]  # torch has no types here
    return out


class _ProductsContext(FunctionCtx):
    at: Linearized
    transposed: bool
    saved_tensors: tuple[torch.Tensor, ...]


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _ProductsContext,
        at: Linearized,
        transposed: bool,
        products: torch.Tensor,
        seeds: torch.Tensor,
        *sources: torch.Tensor,
    ) -> torch.Tensor:
        ctx.at, ctx.transposed = at, transposed
        ctx.save_for_backward(seeds)
        return products.clone()

    @staticmethod
    def backward(ctx: _ProductsContext, cotangents: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (seeds,) = ctx.saved_tensors
        return None, None, None, *ctx.at.gradients(cotangents, seeds, ctx.transposed)
