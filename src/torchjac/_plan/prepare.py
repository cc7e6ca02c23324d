"""Preparation of a plan: a strategy is chosen by what it costs, and fitted to the memory that is allowed.

candidates (products of each direction) -> the cheapest that fits -> direct accumulation, if that is faster still

Compiled, the faster of two programs may be another than op by op: with ``compile=True`` the first call compiles both,
unless one is far ahead.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

import torch

from .._accumulation.errors import CannotAccumulateError
from .._base.errors import OptionError
from .._base.memory import peak_bytes
from .._base.progress import progress
from .._base.random_state import RandomState
from .._base.user_frame import warn
from .._base.words import Args, Direction, Mode
from .._detection.dense_or_not import is_cheap
from .._function.flat import FlatFunction
from .._products.cost import seconds_of
from .._strategies.accumulated import Accumulated
from .._strategies.budget import TooSmallError, least_of
from .._strategies.candidates import Choice, Measured, few_products, worth_accumulating
from .._strategies.strategy import Strategy
from .._tangent.delicate import BATCH, FORWARD, FUNCTIONAL
from .goal import Goal
from .kinds.kind import Kind
from .retrying import retried
from .saving import Saved

_UNTOLD = Choice(None, "forward", (), "asked for")  # accumulation, before anyone wants to know what else there is

_DETECTIONS, _CALLS = 2, 20  # a program may take so many times detection and calls of the products to build
_A_MOMENT, _BEFORE_COMPILING = 0.25, 2.0  # seconds that it has in any case

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


@dataclass(frozen=True, eq=False)
class Prepared:
    """The strategy that a plan runs for a goal, and why it was chosen.

    fitted: whether it is known how many products run at once. undecided: another strategy may be faster compiled.
    seconds: what each stage of preparing took.
    """

    goal: Goal
    kind: Kind
    choice: Choice
    strategy: Strategy
    fitted: bool = True
    undecided: Undecided | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def mode(self) -> Mode:
        """The way to the values: products "forward", "reverse" or "bidirectional", or a program ("accumulate")."""
        return self.strategy.mode

    def on(self, function: FlatFunction) -> Prepared:
        """Return this choice with f computed in another way."""
        goal = self.goal.on(function)
        strategy = _strategy_of(goal, self.kind, self.choice, self.strategy.mode)
        for new, old in zip(strategy.sides, self.strategy.sides, strict=True):
            new.products.chunk = old.products.chunk
        return replace(self, goal=goal, strategy=strategy, undecided=None)


def prepare(goal: Goal, kind: Kind, mode: Mode, args: Args, detection: float = 0.0) -> Prepared:
    """The strategy for ``mode``; for "auto" the one predicted to cost least of those that fit the memory.

    ``detection``: the seconds that the pattern took, which say how long a program may take to be built.
    """

    def on(function: FlatFunction) -> Prepared:
        return _prepare(goal.on(function), kind, mode, args, detection)

    return retried(goal.function, kind.instead, on)[1]


def wanted_mode(goal: Goal) -> Mode:
    """The mode to prepare: reverse instead of auto where it is known that forward mode has nothing to offer."""
    if goal.options.mode != "auto":
        return goal.options.mode
    unseen = goal.once and goal.full and is_cheap(*goal.stored.shape)  # whether there are forward formulas
    return "reverse" if unseen or any(note.op == "forward mode" for note in goal.whole.notes) else "auto"


def restored(goal: Goal, kind: Kind, saved: Saved) -> Prepared:
    """The strategy that was saved; how many products run at once is found on the first call, with real inputs."""
    direction: Direction = "forward" if saved.mode == "forward" else "reverse"
    choice = Choice(saved.coloring, direction, (), "as saved")
    strategy = _strategy_of(goal, kind, choice, saved.mode)
    return Prepared(goal, kind, choice, strategy, fitted=saved.mode == "accumulate", seconds=dict(saved.seconds))


def told(prepared: Prepared) -> Choice:
    """Return the choice beside its rivals: colors that accumulation made needless are looked for now."""
    strategy, kind = prepared.strategy, prepared.kind
    if prepared.choice is not _UNTOLD or not isinstance(strategy, Accumulated) or strategy.known is None:
        return prepared.choice
    numbers, product = strategy.known.numbers, strategy.known.product
    return kind.choose(prepared.goal, "auto", None).beside_accumulation(str(strategy), numbers, product)


def _strategy_of(goal: Goal, kind: Kind, choice: Choice, mode: Mode) -> Strategy:
    return _accumulated(goal, 0) if mode == "accumulate" else _running(goal, kind, choice)


def _running(goal: Goal, kind: Kind, choice: Choice) -> Strategy:
    """The products of ``choice``; one at a time where f has an op whose batches are wrong at some values."""
    strategy = kind.strategy(goal, choice)
    if goal.delicate & BATCH:
        for side in strategy.sides:
            side.products.never_batched()
    return strategy


def forward_is_doubtful(goal: Goal) -> bool:
    """Whether forward mode is wrong at some values of an op in f."""
    return bool(goal.delicate & (FORWARD | FUNCTIONAL))


def _right_everywhere(goal: Goal, mode: Mode) -> Mode:
    """Reverse mode instead of auto where forward mode is wrong at some values of an op in f."""
    return "reverse" if mode == "auto" and forward_is_doubtful(goal) and not goal.needs_forward else mode


def _prepare(goal: Goal, kind: Kind, mode: Mode, args: Args, detection: float) -> Prepared:
    if mode == "accumulate":
        return _asked_accumulation(goal, kind, args)
    products = _products(goal, kind, _right_everywhere(goal, mode), args)
    tried = mode == "auto" and not goal.once and kind.accumulates
    count, compiled = products.strategy.num_products, bool(goal.options.compile)
    if not (tried and worth_accumulating(goal.stored, count, compiled)):
        return products
    return _accumulating(products, args, detection)


def _asked_accumulation(goal: Goal, kind: Kind, args: Args) -> Prepared:
    """Direct accumulation, with products looked for only where it stops; ``told`` has them beside it."""
    start, program = time.perf_counter(), _accumulated(goal, few_products(goal.stored))
    try:
        with torch.no_grad():
            program.prepare(args)
    except CannotAccumulateError as error:
        warn(f"mode='accumulate' uses colors here, because of {error}")
        products = _products(goal, kind, _right_everywhere(goal, "auto"), args)
        return replace(products, choice=products.choice.without_accumulation(str(error)))
    seconds = {"coloring": 0.0, "accumulation": time.perf_counter() - start}
    return Prepared(goal, kind, _UNTOLD, program, seconds=seconds)


def _accumulating(products: Prepared, args: Args, detection: float) -> Prepared:
    """Direct accumulation where it is possible and faster than ``products``.

    Building the program is given up after twice the time of detection and twenty calls of the products, and not before
    a moment: it would not pay for that. Before a compilation there is more time.
    """
    goal, strategy, choice = products.goal, products.strategy, products.choice
    start, program = time.perf_counter(), _accumulated(goal, strategy.num_products)
    with torch.no_grad():
        strategy.values(args)  # the first run of anything is slower
        before = time.perf_counter()
        strategy.values(args)
        called = time.perf_counter()
        least = _BEFORE_COMPILING if goal.options.compile else _A_MOMENT
        allowed = max(least, _DETECTIONS * detection + _CALLS * (called - before))
        try:
            program.prepare(args, called + allowed)
        except CannotAccumulateError as error:
            return replace(products, choice=choice.without_accumulation(str(error)))
        mine = program.seconds(args)
        others = seconds_of(lambda: strategy.values(args), than=mine)
    seconds = {**products.seconds, "accumulation": time.perf_counter() - start}
    close = others < _CLEAR * mine and mine < _CLEAR * others
    both = close and bool(goal.options.compile) and _fits(goal, program, args)
    chosen = mine < others and (both or _fits(goal, program, args))
    return replace(
        products,
        choice=choice.with_accumulation(str(program), Measured((mine, others)), chosen),
        strategy=program if chosen else strategy,
        undecided=Undecided(program, strategy, choice, (mine, others)) if both else None,
        seconds=seconds,
    )


def _accumulated(goal: Goal, products: int) -> Accumulated:
    part = goal.stored is not goal.whole
    detected = isinstance(goal.options.sparsity, str) and products > 0
    return Accumulated(goal.function, goal.stored, products, part, detected, bool(goal.options.compile))


def _fits(goal: Goal, program: Accumulated, args: Args) -> bool:
    budget = goal.options.budget
    return budget is None or peak_bytes(lambda: program.values(args)) <= budget


def _products(goal: Goal, kind: Kind, mode: Mode, args: Args) -> Prepared:
    """Products of ``mode``; with "auto" those of another mode, where the cheapest do not fit the memory."""
    choice, seconds = _chosen(goal, kind, mode, args)
    try:
        return _fitted(goal, kind, choice, seconds, args)
    except TooSmallError as error:
        if mode != "auto":
            raise
        errors, lost = [error], choice.mode
    others: tuple[Mode, ...] = ("forward", "reverse", "bidirectional")
    for other in others[: 2 if choice.coloring is None else 3]:
        if other != lost:
            try:
                found = _fitted(goal, kind, *_chosen(goal, kind, other, args), args)
            except TooSmallError as error:
                errors.append(error)
            except OptionError:  # PyTorch has no forward formula of an op
                continue
            else:
                return replace(found, choice=replace(found.choice, why=f"{lost} mode does not fit the memory"))
    raise least_of(errors)


def _chosen(goal: Goal, kind: Kind, mode: Mode, args: Args) -> tuple[Choice, dict[str, float]]:
    start = time.perf_counter()
    with torch.no_grad(), RandomState(goal.function.device).again(), progress("coloring", goal.options.progress):
        choice = kind.choose(goal, mode, lambda: args)
    return choice, {"coloring": time.perf_counter() - start}


def _fitted(goal: Goal, kind: Kind, choice: Choice, seconds: dict[str, float], args: Args) -> Prepared:
    prepared = Prepared(goal, kind, choice, _running(goal, kind, choice), seconds=seconds)
    with torch.no_grad(), RandomState(goal.function.device).again():
        return fitted(prepared, args)


def fitted(prepared: Prepared, args: Args) -> Prepared:
    """Return the plan with the number of products that run at once fitted to the memory."""

    def fit(function: FlatFunction) -> Prepared:
        on = prepared if function is prepared.goal.function else prepared.on(function)
        on.kind.fit(on.goal, on.strategy, args)
        return replace(on, fitted=True)

    return retried(prepared.goal.function, prepared.kind.instead, fit)[1]
