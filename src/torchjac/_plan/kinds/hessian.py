"""Hessians: the Jacobian of the gradient, whose pattern and values are symmetric."""

from __future__ import annotations

import torch

from ..._base.errors import InputError, OptionError, TorchjacError
from ..._base.random_state import RandomState
from ..._base.words import Args, Mode
from ..._coloring.colors import SymmetricColors
from ..._detection.detect import detect_hessian, mirrored
from ..._function.flat import FlatFunction, refuse_complex
from ..._function.gradient import GradientOf
from ..._matrices.pattern import SparsityPattern
from ..._products.run import Run
from ..._strategies.candidates import Choice
from ..._strategies.hessian_candidates import choose_symmetric
from ..._strategies.strategy import Strategy
from ..._strategies.symmetric import StoredEntries, Symmetric
from ..._tangent.delicate import FUNCTIONAL
from ..._verification.adjoint_probe import probe
from ..._verification.gradient_probe import Combination, all_entries
from ..goal import Goal
from ..options import Options, OptionsOfHessian
from ..result import Assembly
from ..retrying import Other, retried
from .jacobian import fit_products, found_or_given
from .kind import Measuring


class Hessian:
    """The Hessian of a scalar function, all of it or one triangle. ``goal.function`` computes the gradient."""

    accumulates = True
    hessian = True

    def goal(self, function: FlatFunction, args: Args, options: Options, once: bool, run: Run | None) -> Goal:
        """The goal of a new plan; f's gradient is computed by plain autograd where torch.func refuses f."""

        def find(function: FlatFunction) -> SparsityPattern:
            found = lambda: detect_hessian(gradient_of(function), function, args)  # noqa: E731  # one call, named for what it is
            return found_or_given(function, args, options, found)

        function, pattern = retried(function, self._by_autograd, find)
        refuse_complex(function)
        gradient = gradient_of(function).settled()  # f ran, to find the pattern
        if pattern.delicate & FUNCTIONAL and options.mode != "forward":
            gradient = gradient.by_autograd()
        return Goal(function.running(gradient), self.stored_entries(pattern, options), options, once, run)

    def stored_entries(self, pattern: SparsityPattern, options: Options) -> StoredEntries:
        """All entries of the symmetric pattern, or one triangle."""
        return StoredEntries.of(mirrored(pattern), options.uplo if isinstance(options, OptionsOfHessian) else "full")

    def instead(self, function: FlatFunction, error: Exception) -> Other | None:
        """The gradient by plain autograd where torch.func refuses f; plain kernels where fast ones end at one."""
        gradient = gradient_of(function)
        if isinstance(error, (InputError, OptionError)) and not gradient.reference:
            why = f"f runs on kernels that can be differentiated twice from now on, because {error.why}"
            return Other(self.with_reference_kernels(function), why)
        return self._by_autograd(function, error)

    def _by_autograd(self, function: FlatFunction, error: Exception) -> Other | None:
        gradient = gradient_of(function)
        if gradient.plain or isinstance(error, TorchjacError):
            return None
        return Other(function.running(gradient.by_autograd()))

    def with_reference_kernels(self, function: FlatFunction) -> FlatFunction:
        """The gradient of f on kernels that can be differentiated twice."""
        return function.running(gradient_of(function).with_reference_kernels())

    def choose(self, goal: Goal, mode: Mode, measuring: Measuring | None) -> Choice:
        """The candidate for ``mode`` and ``recovery``; for "auto" the cheapest."""
        options = goal.options
        recovery = options.recovery if isinstance(options, OptionsOfHessian) else "auto"
        return choose_symmetric(goal.whole, mode, recovery, goal.function, measuring, options.compile is not False)

    def strategy(self, goal: Goal, choice: Choice) -> Strategy:
        """Products with the seeds of a symmetric coloring."""
        coloring = choice.coloring
        assert coloring is None or isinstance(coloring, SymmetricColors), "a Hessian has symmetric colors"
        return Symmetric(goal.function, goal.stored_entries, coloring, choice.direction)

    def fit(self, goal: Goal, strategy: Strategy, args: Args) -> None:
        """Set how many products run at once, within the memory that is allowed."""
        fit_products(goal, strategy, args)

    def reference(self, goal: Goal) -> FlatFunction:
        """The gradient by plain autograd, which is differentiated by it once more: no formula of torch.func is used."""
        gradient = gradient_of(goal.function)
        return goal.function if gradient.plain else goal.function.running(gradient.by_autograd())

    def verify(
        self, goal: Goal, choice: Choice, strategy: Strategy, args: Args, values: torch.Tensor, draws: RandomState
    ) -> None:
        """Compare one product of H with plain autograd."""

        def evaluate(args: Args) -> torch.Tensor:
            return _mirrored(goal, strategy.values(args))

        probe(self.reference(goal), args, goal.whole, _mirrored(goal, values), draws, evaluate)

    def combination(self, goal: Goal, choice: Choice, strategy: Strategy, values: torch.Tensor) -> Combination:
        """A random combination of all entries, those of both triangles."""
        return all_entries(goal.function, goal.whole, values, lambda stored: _mirrored(goal, stored))

    def doubt(self, goal: Goal) -> str:
        """None, as for a Jacobian."""
        return ""

    def result(self, goal: Goal, strategy: Strategy) -> Assembly:
        """One matrix for each pair of inputs, in the layout that was asked for."""
        return Assembly(goal.function, goal.stored, goal.options)


def gradient_of(function: FlatFunction) -> GradientOf:
    """The gradient that the function of a Hessian's goal computes."""
    assert isinstance(function.f, GradientOf), "the function of a Hessian is a gradient"
    return function.f


def _mirrored(goal: Goal, values: torch.Tensor) -> torch.Tensor:
    """The values of all entries, from those that are stored."""
    if goal.stored_entries.places is None:
        return values
    return values.index_select(0, torch.from_numpy(goal.stored_entries.mirrored).to(values.device))
