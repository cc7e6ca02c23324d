"""The Jacobian operator: the Jacobian at one point, known by its products, never formed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from .._base.errors import DerivativeMismatchError, first_line, not_differentiable
from .._base.random_state import RandomState
from .._base.user_frame import warn
from .._base.words import Args, UserFunction
from .._function.flat import Argnums, FlatFunction, ordinary, refuse_complex
from .._matrices.pattern import SparsityPattern
from .._products.chunk import chunk_size, in_chunks, out_of_memory
from .._products.forward import Forward
from .._products.linearized import Linearized
from .linear import LinearOperator
from .trust import Product, adjoint_fault, batch_fault


class JacobianOperator(LinearOperator):
    """The (m, n) Jacobian of ``f`` at ``args``, by its products; rows and columns are ravelled outputs and inputs.

    >>> import torch, torchjac as tj
    >>> A = tj.JacobianOperator(lambda x: x[1:] * x[:-1], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    >>> A
    JacobianOperator(3 x 4, torch.float32 on cpu)
    >>> A @ torch.ones(4), A.T @ torch.ones(3)
    (tensor([3., 5., 7.]), tensor([2., 4., 6., 3.]))
    >>> A[1], A[:, 2], A[0, 1]
    (tensor([0., 3., 2., 0.]), tensor([0., 2., 4.]), tensor(1.))
    >>> (A.T @ A + 0.5 * A.gram()) @ torch.ones(4)
    tensor([ 9.0000, 27.0000, 57.0000, 31.5000])

    f runs once, when the operator is made (again, if arguments or parameters were written to since); each product is
    a walk through the graph that this leaves, about as expensive as f. Products with matrices run many at once.
    ``A[i, j]`` takes min(rows, columns) products of what is asked for, or fewer where the pattern is known, as it is to
    ``plan.operator(*args)``.

    Every result follows grad mode: it may be differentiated by arguments, by parameters of f, and by what the operator
    is multiplied with.

    Parameters
    ----------
    f: maps tensors (or pytrees of tensors) to tensors (or pytrees).
    args: where the Jacobian is; not copied.
    argnums: which arguments are differentiated; a number, or a tuple of them.

    Raises
    ------
    InputError, OutputError: f or its arguments cannot be differentiated, or a vector does not fit.
    DerivativeMismatchError: two ways to the same product disagree, so that a formula of PyTorch is wrong.
    """

    def __init__(self, f: UserFunction, *args: Any, argnums: Argnums = 0) -> None:
        with ordinary(args) as own:
            self._begin(FlatFunction(f, own, argnums), own)
            self._linearized()  # what f returns says how many rows there are
        refuse_complex(self.function)
        super().__init__((self.function.m, self.function.n), self.function.dtype, self.function.device)

    @classmethod
    def of_plan(
        cls,
        function: FlatFunction,
        args: Args,
        pattern: SparsityPattern,
        values: Callable[[], torch.Tensor],
        num_products: int,
        vouch: Callable[[], object],
    ) -> JacobianOperator:
        """Make one with a pattern, for which ``vouch()`` answers, and whose ``values()`` take ``num_products``."""
        operator = cls.__new__(cls)
        operator._begin(function, args)
        operator._pattern, operator._all, operator._unsure = pattern, (values, num_products), vouch
        LinearOperator.__init__(operator, (function.m, function.n), function.dtype, function.device)
        return operator

    def _begin(self, function: FlatFunction, args: Args) -> None:
        self.function, self._args = function, args
        self._pattern: SparsityPattern | None = None
        self._all: tuple[Callable[[], torch.Tensor], int] | None = None
        self._unsure: Callable[[], object] | None = None  # checks the pattern, once
        self._draws = RandomState(function.device)
        self._kept: tuple[Linearized, list[tuple[torch.Tensor, int]]] | None = None
        self._forward_only = False  # PyTorch has no second derivative of an op in f
        self._by_rows = False  # nor a forward formula
        self._trusted: dict[str, bool] = {}  # by the name of a product: whether many at once are right

    @property
    def pattern(self) -> SparsityPattern | None:
        """The pattern of the entries that can be nonzero; None for an operator that was not made by a plan."""
        return self._pattern

    def all_values(self, at_most: int) -> torch.Tensor | None:
        """Return the values of all entries, by the plan, where it takes at most so many products; else None."""
        if self._all is None or self._all[1] > at_most:
            return None
        with self._draws.again():
            return self._all[0]()

    def vouch(self) -> None:
        """Run the plan's check of its first call, where the plan was not called yet."""
        if self._unsure is not None:
            with torch.no_grad(), self._draws.again():
                self._unsure()
            self._unsure = None

    def jvps(self, seeds: torch.Tensor) -> torch.Tensor:
        """Return J v for every row v of ``seeds``: (k, n) -> (k, m)."""
        return self._products(self._jvps, seeds, transposed=False)

    def vjps(self, seeds: torch.Tensor) -> torch.Tensor:
        """Return J^T u for every row u of ``seeds``: (k, m) -> (k, n)."""
        return self._products(self._vjps, seeds, transposed=True)

    # ---- how

    def _products(
        self, product: Callable[[Linearized, torch.Tensor], torch.Tensor], seeds: torch.Tensor, transposed: bool
    ) -> torch.Tensor:
        with ordinary((self._args, seeds)) as (_, seeds):
            at = self._linearized()
            with torch.no_grad():
                try:
                    found = product(at, seeds.detach())
                except RuntimeError as error:
                    if not _was_freed(error):
                        raise
                    self._kept = None
                    at = self._linearized()
                    found = product(at, seeds.detach())
            return at.differentiable(found, seeds, transposed) if at.depends(seeds) else found

    def _vjps(self, at: Linearized, seeds: torch.Tensor) -> torch.Tensor:
        return self._many("J^T u", seeds, at.vjp, at.vjps)

    def _jvps(self, at: Linearized, seeds: torch.Tensor) -> torch.Tensor:
        if not self._forward_only:
            try:
                self._check_adjoint(at)
                return self._many("J v", seeds, at.jvp, at.jvps)
            except RuntimeError as error:
                self._go_forward(error, at)
        if self._by_rows:
            return self._summed_rows(at, seeds)
        with self._draws.again():
            forward = Forward(self.function, self._args)
            return self._many("J v", seeds, forward.one, forward.batch)

    def _linearized(self) -> Linearized:
        """Return the derivative at the arguments as they are now."""
        if self._kept is not None and all(t._version == version for t, version in self._kept[1]):
            return self._kept[0]
        with self._draws.again():
            try:
                at = Linearized(self.function, self._args)
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                self.function.bind(self._args)(*self.function.leaves(self._args))  # its own errors stay as they are
                raise not_differentiable(error) from error
        read = [t for t in tree_leaves(self._args) if isinstance(t, torch.Tensor)] + at.parameters
        self._kept, self._trusted = (at, [(t, t._version) for t in read]), {}
        return at

    def _many(self, name: str, seeds: torch.Tensor, one: Product, batch: Product) -> torch.Tensor:
        width = self.shape[0 if name == "J v" else 1]
        if len(seeds) * width == 0:
            return seeds.new_zeros(len(seeds), width)
        if len(seeds) == 1:
            return one(seeds[0])[None]
        if name not in self._trusted:
            reason = batch_fault(seeds, one, batch)
            if reason:
                warn(f"products {name} run one at a time, because {reason}")
            self._trusted[name] = not reason
        some = batch if self._trusted[name] else lambda part: torch.stack([one(seed) for seed in part])
        chunk = chunk_size(len(seeds), sum(self.shape), self.dtype.itemsize)
        return in_chunks(lambda start, stop: some(seeds[start:stop]), len(seeds), chunk)[0]

    def _check_adjoint(self, at: Linearized) -> None:
        """Compare J v with J^T u, once: a backward that detaches hides from its own derivative."""
        if "adjoint" not in self._trusted:
            self._agrees(at, at.jvp, _Unequal)
            self._trusted["adjoint"] = True

    def _agrees(self, at: Linearized, jvp: Product, error: type[Exception]) -> None:
        """Raise ``error`` unless u.(J v) = (J^T u).v, for a random u and v."""
        like = torch.empty(0, dtype=self.dtype, device=self.device)
        if fault := adjoint_fault(self.shape, like, jvp, at.vjp):
            raise error(fault)

    def _go_forward(self, error: RuntimeError, at: Linearized) -> None:
        if out_of_memory(error) or _was_freed(error):
            raise error
        text = f"products J v run by forward mode from now on, because PyTorch said: {first_line(error)}"
        warn(text)
        self._forward_only = True
        self._trusted.pop("J v", None)
        with self._draws.again():
            try:
                self._agrees(at, Forward(self.function, self._args).one, DerivativeMismatchError)
            except DerivativeMismatchError:
                raise
            except RuntimeError as missing:  # no forward formula either
                warn(
                    f"products J v take a VJP for each output from now on, because PyTorch said: {first_line(missing)}"
                )
                self._by_rows = True

    def _summed_rows(self, at: Linearized, seeds: torch.Tensor) -> torch.Tensor:
        """Return J v for every seed v from the rows of J, a VJP each: the one way that every function has."""
        m, parts = self.shape[0], []
        chunk = chunk_size(m, sum(self.shape), self.dtype.itemsize)
        for start in range(0, m, chunk):
            rows = torch.arange(start, min(start + chunk, m), device=self.device)
            units = torch.zeros(len(rows), m, dtype=self.dtype, device=self.device)
            units[torch.arange(len(rows), device=self.device), rows] = 1
            parts.append(self._vjps(at, units) @ seeds.T)
        return torch.cat(parts).T if parts else seeds.new_zeros(len(seeds), m)


def _was_freed(error: RuntimeError) -> bool:
    """Tell whether the kept graph is gone: somebody walked back through a part of it without retain_graph."""
    return "second time" in str(error)


class _Unequal(RuntimeError):
    """The derivative of a vector-Jacobian product is not the Jacobian's."""
