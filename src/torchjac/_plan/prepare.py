"""Which strategy a plan runs: chosen by what it costs, fitted to the memory that is allowed.

candidates (products of each direction) -> the cheapest that fits -> direct accumulation, if that is faster still

Compiled, the faster of two programs may be another than op by op: with ``compile=True`` the first call compiles both,
unless one is far ahead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from .._accumulation.errors import CannotAccumulateError
from .._base.errors import OptionError
from .._base.memory import peak_bytes
from .._base.progress import progress
from .._base.random_state import RandomState
from .._base.user_frame import warn
from .._base.words import Args, Direction, Mode
from .._coloring.colors import Coloring
from .._detection.dense_or_not import is_cheap
from .._function.flat import FlatFunction
from .._matrices.pattern import SparsityPattern
from .._products.cost import seconds_of
from .._products.seeded import Engines, Strategy
from .._strategies.accumulated import Accumulated
from .._strategies.budget import TooSmallError, fit_chunks, least_of
from .._strategies.candidates import Choice, Measured, choose, choose_some, few_products, worth_accumulating
from .._strategies.colored import Colored
from .._strategies.compiling.compiled import Compiled
from .._strategies.dense import Dense
from .._verification.adjoint_probe import probe_bytes
from .options import Options
from .saving import Saved

_UNTOLD = Choice(None, "forward", (), "asked for")  # accumulation, before anyone wants to know what else there is

_CLEAR = 12  # times faster op by op: then faster compiled too


@dataclass(frozen=True)
class Undecided:
    """Direct accumulation and products, of which the one is kept that is faster once both are compiled.

    ``choice``: of the products. ``seconds``: what the two take op by op.
    """

    program: Accumulated
    products: Strategy
    choice: Choice
    seconds: tuple[float, float]

    def decided(self, compiled: tuple[float, float]) -> tuple[Strategy, Choice]:
        """The faster, by the seconds that the two take compiled."""
        chosen = compiled[0] < compiled[1]
        both = Measured(self.seconds, compiled)
        choice = self.choice.with_accumulation(str(self.program), both, chosen)
        return self.program if chosen else self.products, choice


class Choosing:
    """The part of a plan that chooses. ``pattern`` has the entries that are wanted, ``_whole_pattern`` all of them."""

    options: Options
    pattern: SparsityPattern
    seconds: dict[str, float]
    _function: FlatFunction
    _engines: Engines
    _choice: Choice
    _strategy: Strategy
    _whole_pattern: SparsityPattern
    _once: bool
    _fitted: bool
    _program: Compiled | None
    _undecided: Undecided | None = None

    @property
    def coloring(self) -> Coloring | None:
        """Which columns or rows share a product; None for a dense Jacobian."""
        return self._choice.coloring

    @property
    def mode(self) -> Mode:
        """What builds the Jacobian: products "forward", "reverse" or "bidirectional", or a program ("accumulate")."""
        return self._strategy.mode

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): ravelled outputs and inputs."""
        return self.pattern.shape

    def _wanted_mode(self) -> Mode:
        if self.options.mode != "auto":
            return self.options.mode
        unseen = self._once and self._is_full() and is_cheap(*self.shape)  # whether there are forward formulas
        return "reverse" if unseen or any(note.op == "forward mode" for note in self.pattern.notes) else "auto"

    def _is_full(self) -> bool:
        m, n = self.shape
        return 0 < m * n == self.pattern.nnz

    def _prepare(self, mode: Mode, args: Args) -> Strategy:
        """The strategy for ``mode``; for "auto" the one predicted to cost least of those that fit the memory."""
        self._undecided = None
        if mode == "accumulate":
            return self._asked_accumulation(args)
        strategy = self._prepare_products(mode, args)
        if (
            mode == "auto"
            and not self._once
            and worth_accumulating(self.pattern, strategy.num_products, bool(self.options.compile))
        ):
            return self._accumulating(strategy, args)
        return strategy

    def _asked_accumulation(self, args: Args) -> Strategy:
        """Direct accumulation, with products looked for only where it stops; ``_told_choice`` has them beside it."""
        start, program = time.perf_counter(), self._accumulated(few_products(self.pattern))
        try:
            with torch.no_grad():
                program.prepare(args)
        except CannotAccumulateError as error:
            warn(f"mode='accumulate' uses colors here, because of {error}")
            products = self._prepare_products("auto", args)
            self._choice = self._choice.without_accumulation(str(error))
            return products
        self.seconds |= {"coloring": 0.0, "accumulation": time.perf_counter() - start}
        self._choice = _UNTOLD
        self._fitted, self._program = True, None
        return program

    def _told_choice(self) -> Choice:
        """What was chosen and what else there is: colors that accumulation made needless are looked for now."""
        strategy = self._strategy
        if self._choice is _UNTOLD and isinstance(strategy, Accumulated) and strategy.known is not None:
            numbers, product = strategy.known.numbers, strategy.known.product
            self._choice = self._choose("auto", None).beside_accumulation(str(strategy), numbers, product)
        return self._choice

    def _accumulating(self, products: Strategy, args: Args) -> Strategy:
        """Direct accumulation where it is possible and faster than ``products``."""
        start, program = time.perf_counter(), self._accumulated(products.num_products)
        with torch.no_grad():
            try:
                program.prepare(args)
            except CannotAccumulateError as error:
                self._choice = self._choice.without_accumulation(str(error))
                return products
            mine = program.seconds(args)
            others = seconds_of(lambda: products.values(args), than=mine)
        self.seconds["accumulation"] = time.perf_counter() - start
        seconds = mine, others
        close = others < _CLEAR * mine and mine < _CLEAR * others
        both = close and bool(self.options.compile) and self._fits(program, args)
        if both:
            self._undecided = Undecided(program, products, self._choice, seconds)
        chosen = mine < others and (both or self._fits(program, args))
        self._choice = self._choice.with_accumulation(str(program), Measured(seconds), chosen)
        return program if chosen else products

    def _accumulated(self, products: int) -> Accumulated:
        part = self.pattern is not self._whole_pattern
        detected = isinstance(self.options.sparsity, str) and products > 0
        compiled = bool(self.options.compile)
        return Accumulated(self._function, self.pattern, products, part, detected, compiled)

    def _fits(self, program: Accumulated, args: Args) -> bool:
        budget = self.options.budget
        return budget is None or peak_bytes(lambda: program.values(args)) <= budget

    def _prepare_products(self, mode: Mode, args: Args) -> Strategy:
        try:
            return self._prepare_one(mode, args)
        except TooSmallError as error:
            if mode != "auto":
                raise
            errors, lost = [error], self._choice.mode
        others: tuple[Mode, ...] = ("forward", "reverse", "bidirectional")
        for other in others[: 2 if self._choice.coloring is None else 3]:
            if other != lost:
                try:
                    strategy = self._prepare_one(other, args)
                except TooSmallError as error:
                    errors.append(error)
                except OptionError:  # PyTorch has no forward formula of an op
                    continue
                else:
                    self._choice = replace(self._choice, why=f"{lost} mode does not fit the memory")
                    return strategy
        raise least_of(errors)

    def _prepare_one(self, mode: Mode, args: Args) -> Strategy:
        start = time.perf_counter()
        with torch.no_grad(), RandomState(self._function.device).again(), progress("coloring", self.options.progress):
            self._choice = self._choose(mode, lambda: args)
            strategy = self._strategy_for(self._choice)
            self.seconds["coloring"] = time.perf_counter() - start
            self._fit(strategy, args)
        self._fitted, self._program = True, None
        return strategy

    def _fit(self, strategy: Strategy, args: Args) -> None:
        budget = self.options.budget
        check = (
            0 if budget is None or not self.options.check else probe_bytes(self._function, args, self._whole_pattern)
        )
        fit_chunks(strategy, self._function, args, budget, check, once=self._once)

    def _choose(self, mode: Mode, measuring: Callable[[], Args] | None) -> Choice:
        if self.options.entries is None:
            return choose(self.pattern, mode, self._engines, measuring, once=self._once)
        return choose_some(self._whole_pattern, self.pattern, mode, self._engines, measuring)

    def _strategy_for(self, choice: Choice) -> Strategy:
        if choice.coloring is None:
            return Dense(self._function, choice.direction, self._engines)
        return Colored(self._function, self.pattern, choice.coloring, self._engines)

    def _restored(self, saved: Saved) -> Strategy:
        """The strategy that was saved; how many products run at once is found on the first call, with real inputs."""
        direction: Direction = "forward" if saved.mode == "forward" else "reverse"
        self._choice = Choice(saved.coloring, direction, (), "as saved")
        self._fitted = False
        if saved.mode == "accumulate":
            self._fitted = True
            return self._accumulated(0)
        return self._strategy_for(self._choice)
