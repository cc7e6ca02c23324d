"""Jacobians of any function: all entries of the pattern, or some that were asked for."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from ..._base.errors import PatternError
from ..._base.progress import progress
from ..._base.random_state import RandomState
from ..._base.words import Args, Mode
from ..._coloring.colors import ColumnColors, RowColors
from ..._detection.dense_or_not import pattern_or_full
from ..._detection.detect import detect
from ..._function.flat import FlatFunction, refuse_complex
from ..._function.kernels import with_reference_kernels
from ..._matrices.conversion import as_pattern, wanted_entries
from ..._matrices.pattern import SparsityPattern
from ..._products.run import Run
from ..._strategies.budget import fit_chunks
from ..._strategies.candidates import Choice, choose, choose_some
from ..._strategies.colored import Colored
from ..._strategies.dense import Dense
from ..._strategies.strategy import Strategy
from ..._strategies.symmetric import StoredEntries
from ..._tangent.delicate import look_for_delicate
from ..._verification.adjoint_probe import probe, probe_bytes
from ..._verification.gradient_probe import Combination, all_entries
from ..._verification.partial_probe import Some, probe_some, some_entries
from ..goal import Goal
from ..options import Options
from ..result import Assembly
from ..retrying import Other
from .kind import Kind, Measuring


class Jacobian:
    """All entries of the Jacobian of a function."""

    accumulates = True
    hessian = False

    def goal(self, function: FlatFunction, args: Args, options: Options, once: bool, run: Run | None) -> Goal:
        """The goal of a new plan; detection is left out where all is dense and wanted once."""

        def found() -> SparsityPattern:
            if once and options.may_be_dense:
                return _dense_or_detected(function, args, run)
            return detect(function, args)

        pattern = found_or_given(function, args, options, found)
        refuse_complex(function)
        return Goal(function, self.stored_entries(pattern, options), options, once, run)

    def stored_entries(self, pattern: SparsityPattern, options: Options) -> StoredEntries:
        """Every entry."""
        return StoredEntries(pattern, pattern, None)

    def instead(self, function: FlatFunction, error: Exception) -> Other | None:
        """Return None: a function that is differentiated once has no other way."""
        return None

    def with_reference_kernels(self, function: FlatFunction) -> FlatFunction:
        """F on kernels that can be differentiated twice."""
        return function.running(with_reference_kernels(function.f))

    def choose(self, goal: Goal, mode: Mode, measuring: Measuring | None) -> Choice:
        """The candidate for ``mode``; for "auto" the cheapest."""
        return choose(goal.stored, mode, goal.function, measuring, once=goal.once)

    def strategy(self, goal: Goal, choice: Choice) -> Strategy:
        """Colored products, or dense ones without a coloring."""
        return products_of(goal, choice)

    def fit(self, goal: Goal, strategy: Strategy, args: Args) -> None:
        """Set how many products run at once, within the memory that is allowed."""
        fit_products(goal, strategy, args)

    def reference(self, goal: Goal) -> FlatFunction:
        """The function itself."""
        return goal.function

    def verify(
        self, goal: Goal, choice: Choice, strategy: Strategy, args: Args, values: torch.Tensor, draws: RandomState
    ) -> None:
        """Compare one product of J with plain autograd."""
        reverse = None if goal.run is None else goal.run.again(args)
        probe(goal.function, args, goal.stored, values, draws, strategy.values, reverse=reverse)

    def combination(self, goal: Goal, choice: Choice, strategy: Strategy, values: torch.Tensor) -> Combination:
        """A random combination of all entries."""
        return all_entries(goal.function, goal.stored, values)

    def doubt(self, goal: Goal) -> str:
        """None: what depends on values makes a pattern local, and the first call is checked."""
        return ""

    def result(self, goal: Goal, strategy: Strategy) -> Assembly:
        """One matrix for each output and input, in the layout that was asked for."""
        return Assembly(goal.function, goal.stored, goal.options)


class SomeEntries:
    """The entries of a Jacobian, or of another kind of derivative, that ``entries=`` names."""

    accumulates = True

    def __init__(self, of: Kind) -> None:
        self._of = of
        self.hessian = of.hessian

    def goal(self, function: FlatFunction, args: Args, options: Options, once: bool, run: Run | None) -> Goal:
        """The goal of the whole matrix, with fewer entries stored."""
        whole = self._of.goal(function, args, options, once, run)
        return Goal(whole.function, self.stored_entries(whole.whole, options), options, once, run)

    def stored_entries(self, pattern: SparsityPattern, options: Options) -> StoredEntries:
        """The entries that are wanted and can be nonzero; of a diagonal each, so that its values are as many.

        A pattern that may miss some of them is not asked: those are computed too.
        """
        wanted = wanted_entries(options.entries, pattern.shape)
        diagonal, given = isinstance(options.entries, str), not isinstance(options.sparsity, str)
        if diagonal or given or pattern.scope == "local":
            pattern = pattern | wanted
        return StoredEntries(pattern, pattern & wanted, None)

    def instead(self, function: FlatFunction, error: Exception) -> Other | None:
        """The other way that there is for the whole matrix."""
        return self._of.instead(function, error)

    def with_reference_kernels(self, function: FlatFunction) -> FlatFunction:
        """F on kernels that can be differentiated twice."""
        return self._of.with_reference_kernels(function)

    def choose(self, goal: Goal, mode: Mode, measuring: Measuring | None) -> Choice:
        """The cheaper of two partial colorings."""
        return choose_some(goal.whole, goal.stored, mode, goal.function, measuring)

    def strategy(self, goal: Goal, choice: Choice) -> Strategy:
        """Colored products."""
        return products_of(goal, choice)

    def fit(self, goal: Goal, strategy: Strategy, args: Args) -> None:
        """Set how many products run at once, within the memory that is allowed."""
        fit_products(goal, strategy, args)

    def reference(self, goal: Goal) -> FlatFunction:
        """The function that the whole matrix is compared with."""
        return self._of.reference(goal)

    def verify(
        self, goal: Goal, choice: Choice, strategy: Strategy, args: Args, values: torch.Tensor, draws: RandomState
    ) -> None:
        """Compare weighted products with plain autograd, and each entry with the product that it shares."""
        some = self._some(goal, choice, strategy)
        probe_some(some, self.reference(goal), args, values, draws, strategy.values)

    def combination(self, goal: Goal, choice: Choice, strategy: Strategy, values: torch.Tensor) -> Combination:
        """A random combination of the entries that are stored."""
        return some_entries(self._some(goal, choice, strategy))

    def _some(self, goal: Goal, choice: Choice, strategy: Strategy) -> Some:
        """The entries with the products that give them; for a program, products that it is compared with."""
        if not isinstance(choice.coloring, (ColumnColors, RowColors)):  # of one side, see choose_some
            choice = self.choose(goal, "reverse", None)
            strategy = self.strategy(goal, choice)
        assert isinstance(choice.coloring, (ColumnColors, RowColors))
        return Some(goal.function, goal.stored, choice.coloring, strategy.sides)

    def doubt(self, goal: Goal) -> str:
        """None, as for a whole Jacobian."""
        return ""

    def result(self, goal: Goal, strategy: Strategy) -> Assembly:
        """One matrix for each output and input, in the layout that was asked for."""
        return Assembly(goal.function, goal.stored, goal.options)


def found_or_given(
    function: FlatFunction, args: Args, options: Options, found: Callable[[], SparsityPattern]
) -> SparsityPattern:
    """The pattern ``found()``, or the one in the options, for which f runs once to see what it returns."""
    sparsity = options.sparsity
    if isinstance(sparsity, str):
        with RandomState(function.device).again(), progress("detection", options.progress):
            return found()
    with RandomState(function.device).again():
        delicate = look_for_delicate(function, args)
    shape = (function.m, function.n)
    pattern = SparsityPattern.full(shape) if sparsity is None else as_pattern(sparsity)
    if pattern.shape != shape:
        raise PatternError(
            f"sparsity of shape {pattern.shape}",
            expected=f"shape {shape}: {shape[0]} ravelled outputs by {shape[1]} ravelled inputs",
            why="a row is an element of the output and a column an element of the inputs that argnums names",
            instead="jacobian_sparsity(f, *args) for the pattern of this function",
        )
    if delicate - pattern.delicate:
        pattern = copy.copy(pattern)  # the caller's stays as it is
        pattern.delicate |= delicate
    return pattern


def products_of(goal: Goal, choice: Choice) -> Strategy:
    """Colored products, or dense ones without a coloring."""
    if choice.coloring is None:
        return Dense(goal.function, choice.direction, goal.run if choice.direction == "reverse" else None)
    return Colored(goal.function, goal.stored, choice.coloring, goal.run)


def fit_products(goal: Goal, strategy: Strategy, args: Args) -> None:
    """Set how many products run at once, so that a call and its check stay within the memory that is allowed."""
    budget, check = goal.options.budget, 0
    if budget is not None and goal.options.check:
        check = probe_bytes(goal.function, args, goal.whole)
    fit_chunks(strategy, goal.function, args, budget, check, once=goal.once)


def _dense_or_detected(function: FlatFunction, args: Args, run: Run | None) -> SparsityPattern:
    if run is None:
        function.look(args)
    with torch.no_grad():
        return pattern_or_full(function, args, None if run is None else run.reverse.batch)
