"""The plan of a Hessian: the plan of the Jacobian of grad f, whose pattern and values are symmetric.

What differs is said here: symmetric colors, one triangle instead of all entries, and f's own value and gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from .._base.errors import InputError, OptionError, TorchjacError
from .._base.random_state import Draws
from .._base.user_frame import warn
from .._base.words import Args, Mode, UserFunction
from .._coloring.colors import SymmetricColors
from .._coloring.equations import Places
from .._detection.detect import detect_hessian, mirrored
from .._function.flat import Argnums, FlatFunction
from .._function.gradient import GradientOf
from .._function.kernels import with_reference_kernels
from .._matrices.pattern import SparsityPattern
from .._products.seeded import Strategy
from .._strategies.candidates import Choice
from .._strategies.hessian_candidates import choose_symmetric
from .._strategies.symmetric import Part, Symmetric
from .._verification.adjoint_probe import probe
from .._verification.gradient_probe import Combination, all_entries
from .jacobian import JacobianPlan
from .options import OptionsOfHessian
from .report.explain import Facts
from .saving import Saved

T = TypeVar("T")


class HessianPlan(JacobianPlan):
    """``plan(*args) -> H`` for every ``args`` like those it was made with.

    >>> import torch, torchjac as tj
    >>> plan = tj.plan_hessian(lambda x: (x[1:] * x[:-1] ** 2).sum(), torch.rand(4), uplo="lower")
    >>> plan.num_products, plan.pattern.nnz
    (2, 6)
    >>> plan.pattern.rows.tolist(), plan.pattern.indices.tolist()
    ([0, 1, 1, 2, 2, 3], [0, 0, 1, 1, 2, 2])
    >>> plan.values(torch.arange(4.0))
    tensor([2., 0., 4., 2., 6., 4.])

    It is the plan of the Jacobian of the gradient, and has all that such a plan has.

    Attributes
    ----------
    pattern: the (n, n) SparsityPattern of what is stored: all entries, or one triangle.
    coloring: a symmetric one, of all entries; None for a dense Hessian.
    mode: "forward" (forward-over-reverse) or "reverse" (reverse-over-reverse).
    num_products: Hessian-vector products of one call.
    """

    options: OptionsOfHessian

    def __init__(
        self,
        f: UserFunction,
        args: Args,
        argnums: Argnums,
        options: OptionsOfHessian,
        saved: Saved | None = None,
    ) -> None:
        scalar = FlatFunction(f, args, argnums, options.has_aux)
        _refuse_complex(scalar)
        self._gradient = GradientOf(scalar)
        super().__init__(self._gradient, args, argnums, options, saved)

    def value_grad_hessian(self, *args: Any) -> tuple[Any, Any, Any]:
        """(f(*args), its gradient, its Hessian), of the same random numbers; with has_aux, f(*args) is (value, aux).

        Beside the Hessian this takes one evaluation of the gradient, which gives the value too.
        """
        draws = Draws(self._function.device)
        hessian = self._assemble(self.values(*args))
        with draws.again():
            value, gradient, aux = self._gradient.with_value(args)
        return ((value, aux) if self.options.has_aux else value), gradient, hessian

    # ---- how

    def _facts(self) -> Facts:
        return dataclasses.replace(super()._facts(), hessian=True)

    def _detect(self, args: Args) -> SparsityPattern:
        return detect_hessian(self._gradient, self._function, args)

    def _stored(self, pattern: SparsityPattern) -> SparsityPattern:
        if self._function.outputs:  # f ran, to find the pattern
            self._gradient.settle()
        self._part = Part.of(mirrored(pattern), self.options.uplo)
        self._whole_pattern = self._part.whole
        return self._part.stored

    @property
    def _entries(self) -> Places | None:
        return self._part.entries

    def _guarded(self, run: Callable[[], torch.Tensor]) -> torch.Tensor:
        return self._differentiable(lambda: self._differentiable_twice(run))

    def _whole(self, values: torch.Tensor) -> torch.Tensor:
        """The values of all entries, from those that are stored."""
        if self._part.entries is None:
            return values
        return values.index_select(0, torch.from_numpy(self._part.mirrored).to(values.device))

    def _verify(self, args: Args, values: torch.Tensor, draws: Draws) -> None:
        def evaluate(args: Args) -> torch.Tensor:
            return self._whole(self._strategy.values(args))

        probe(self._function, args, self._whole_pattern, self._whole(values), draws, evaluate)

    def _combination(self, values: torch.Tensor) -> Combination:
        return all_entries(self._function, self._whole_pattern, values, self._whole)

    def _find_pattern(self, args: Args) -> SparsityPattern:
        return self._differentiable(lambda: super(HessianPlan, self)._find_pattern(args))

    def _choose(self, mode: Mode, measuring: Callable[[], Args] | None) -> Choice:
        options, compiled = self.options, self.options.compile is not False
        return choose_symmetric(self._part.whole, mode, options.recovery, self._engines, measuring, compiled)

    def _prepare(self, mode: Mode, args: Args) -> Strategy:
        return self._differentiable_twice(lambda: super(HessianPlan, self)._prepare(mode, args))

    def _fit(self, strategy: Strategy, args: Args) -> None:
        fit = super()._fit
        self._differentiable(lambda: self._differentiable_twice(lambda: fit(strategy, args)))

    def _strategy_for(self, choice: Choice) -> Strategy:
        coloring = choice.coloring
        assert coloring is None or isinstance(coloring, SymmetricColors), "a Hessian has symmetric colors"
        return Symmetric(self._function, self._part, coloring, choice.direction, self._engines)

    def _products(self, args: Args, draws: Draws | None = None) -> torch.Tensor:
        as_for_a_jacobian = super()._products

        def run() -> torch.Tensor:
            try:
                return self._differentiable_twice(lambda: self._strategy.values(args), draws)
            except OptionError:  # no forward formula
                return self._differentiable_twice(lambda: as_for_a_jacobian(args, draws), draws)

        return self._differentiable(run)

    def _differentiable(self, run: Callable[[], T]) -> T:
        """``run()``; with the gradient by plain autograd from now on, where torch.func refuses f."""
        try:
            return run()
        except TorchjacError:
            raise
        except RuntimeError:
            if self._gradient.plain:
                raise
            self._gradient.plain = True
            try:
                return run()
            except RuntimeError:  # f itself raised, or there was no memory
                self._gradient.plain = False
                raise

    def _differentiable_twice(self, run: Callable[[], T], draws: Draws | None = None) -> T:
        """``run()``, and from now on f on plain kernels where PyTorch has no second derivative of the fast ones."""
        scalar = self._gradient.scalar
        fast = scalar.f
        try:
            return run()
        except (InputError, OptionError) as error:
            if draws is not None:
                draws.replay()
            scalar.f = with_reference_kernels(fast)
            try:
                out = run()
            except (InputError, OptionError):
                scalar.f = fast
                raise error from None
            why = f"f runs on kernels that can be differentiated twice from now on, because {error.why}"
            warn(why)
            return out


def _refuse_complex(scalar: FlatFunction) -> None:
    for leaf in scalar.inputs:
        if leaf.dtype.is_complex:
            raise InputError(
                f"{leaf} is complex",
                expected="real inputs",
                why="a complex function has a derivative by real and one by imaginary parts, and conventions differ",
                instead="lambda x: f(torch.view_as_complex(x)), with x = torch.view_as_real(z)",
            )
