"""The questions that a plan asks of the kind of derivative that it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from ..._base.random_state import RandomState
from ..._base.words import Args, Mode
from ..._function.flat import FlatFunction
from ..._matrices.blocking import Blocking
from ..._matrices.pattern import SparsityPattern
from ..._products.run import Run
from ..._strategies.candidates import Choice
from ..._strategies.strategy import Strategy
from ..._strategies.symmetric import StoredEntries
from ..._verification.gradient_probe import Combination
from ..goal import Goal
from ..options import Options
from ..retrying import Other

Measuring = Callable[[], Args]
"""The arguments at which products may be timed."""


class Result(Protocol):
    """From the values of a plan to the tensors and matrices that it returns."""

    @property
    def blocks(self) -> tuple[Blocking, ...]:
        """The dense blocks of each matrix; none where the layout has none."""

    def result(self, values: torch.Tensor) -> Any:
        """Tensors in the layout and nesting that were asked for."""

    def matrix(self, values: torch.Tensor) -> Any:
        """The matrix of pattern and values; with a block layout one for each tensor of the result."""


class Kind(Protocol):
    """A kind of derivative. It keeps nothing of a plan: what a plan has found is in its goal."""

    @property
    def accumulates(self) -> bool:
        """Whether direct accumulation is tried."""

    @property
    def hessian(self) -> bool:
        """Whether it is a second derivative."""

    def goal(self, function: FlatFunction, args: Args, options: Options, once: bool, run: Run | None) -> Goal:
        """The goal of a new plan: f runs, and its pattern is found or taken from the options."""

    def stored_entries(self, pattern: SparsityPattern, options: Options) -> StoredEntries:
        """The entries of ``pattern`` that are stored."""

    def instead(self, function: FlatFunction, error: Exception) -> Other | None:
        """Another way to compute f, where ``error`` was raised; None where there is none."""

    def with_reference_kernels(self, function: FlatFunction) -> FlatFunction:
        """F on kernels that can be differentiated twice."""

    def choose(self, goal: Goal, mode: Mode, measuring: Measuring | None) -> Choice:
        """The products for ``mode``; for "auto" the cheapest."""

    def strategy(self, goal: Goal, choice: Choice) -> Strategy:
        """The strategy that runs the products of ``choice``."""

    def fit(self, goal: Goal, strategy: Strategy, args: Args) -> None:
        """Set how many products run at once, within the memory that is allowed."""

    def reference(self, goal: Goal) -> FlatFunction:
        """The function of the goal by plain autograd alone: what products of it are compared with."""

    def verify(
        self, goal: Goal, choice: Choice, strategy: Strategy, args: Args, values: torch.Tensor, draws: RandomState
    ) -> None:
        """Raise unless ``values``, on the random numbers ``draws``, are f's derivatives at ``args``."""

    def combination(self, goal: Goal, choice: Choice, strategy: Strategy, values: torch.Tensor) -> Combination:
        """A number made of the values, whose gradient is compared with that of plain autograd twice."""

    def doubt(self, goal: Goal) -> str:
        """The reason why values that were right may be wrong for other numbers; empty where there is none."""

    def result(self, goal: Goal, strategy: Strategy) -> Result:
        """The maker of what the plan returns from values."""
