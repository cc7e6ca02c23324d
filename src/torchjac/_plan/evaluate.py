"""How a plan evaluates: products or a program, verified on the first call, changed where they turn out wrong."""

from __future__ import annotations

from functools import partial

import torch
from torch.utils._pytree import tree_leaves

from .._base.errors import DerivativeMismatchError, OptionError
from .._base.random_state import Draws
from .._base.user_frame import warn
from .._base.words import Args
from .._coloring.colors import ColumnColors, RowColors
from .._function.flat import Choices, on_tensors
from .._products.cost import seconds_of
from .._products.seeded import Strategy
from .._strategies.accumulated import Accumulated
from .._strategies.compiling.compiled import Compiled
from .._verification.adjoint_probe import probe
from .._verification.gradient_probe import Changeable, Combination, all_entries, with_right_gradient
from .._verification.partial_probe import Some, probe_some, some_entries
from .prepare import Choosing, Undecided


class Evaluating(Choosing):
    """The part of a plan that computes values at given arguments."""

    _checked_for: Choices | None
    _gradient_checked: bool
    _parametric: bool

    def _evaluate(self, args: Args) -> torch.Tensor:
        if not self._fitted:
            with torch.no_grad(), Draws(self._function.device).again():
                self._fit(self._strategy, args)
            self._fitted = True
        if not self.options.check and not self.options.compile:
            return self._products(args)
        choices = self._function.choices(args)  # with other indices or flags the pattern may be another
        first = self._checked_for is None or not self._checked_for.same(choices)
        if first:
            self._program = None
        if self._program is not None and self.options.check != "always" and not self._wants_eager(args):
            return self._program(args)
        probing = self.options.check == "always" or (first and self.options.check == "first")
        draws = Draws(self._function.device)
        values = self._probed(args, draws) if probing else self._products(args, draws)
        if first:
            self._checked_for = choices
        wanted = values.requires_grad or any(leaf.requires_grad for leaf in self._function.leaves(args))
        missable = probing and self.mode != "reverse"  # a forward formula may have lost f's parameters altogether
        if self.options.check and torch.is_grad_enabled() and not self._gradient_checked and (wanted or missable):
            values = self._with_right_gradient(args, values, draws)
            self._gradient_checked = wanted
        if self.options.compile and self._program is None:
            self._compile(args, values)
        return values

    def _wants_graph(self, args: Args) -> bool:
        """Whether somebody may differentiate J: by any argument, or by parameters that f brings along."""
        if not torch.is_grad_enabled():
            return False
        given = (t.requires_grad for t in tree_leaves(args) if isinstance(t, torch.Tensor))
        return self._parametric or any(given)

    def _wants_eager(self, args: Args) -> bool:
        assert self._program is not None
        return not self._program.differentiable and self._wants_graph(args)

    def _compile(self, args: Args, values: torch.Tensor) -> None:
        """From the next call on, run the compiled program, where it exists and gives the same."""
        accumulates = isinstance(self._strategy, Accumulated)
        if not accumulates:
            self._find_parameters(args)
        graph_wanted = values.requires_grad or self._wants_graph(args)
        if graph_wanted and not accumulates:
            return
        program = self._compiled(self._strategy, args, values)
        if self._undecided is not None and not graph_wanted:
            program = self._decide(self._undecided, program, args, values)
        program.say()
        self._program = program

    def _decide(self, between: Undecided, program: Compiled, args: Args, values: torch.Tensor) -> Compiled:
        """Compile the other candidate too, and keep the faster."""
        accumulates = self._strategy is between.program
        other = self._compiled(between.products if accumulates else between.program, args, values)
        programs = (program, other) if accumulates else (other, program)
        with torch.no_grad():
            accumulated, products = (seconds_of(partial(program, args)) for program in programs)
        self._undecided = None
        self._strategy, self._choice = between.decided((accumulated, products))
        if self._strategy is between.products:
            self._find_parameters(args)
        return programs[self._strategy is between.products]

    def _find_parameters(self, args: Args) -> None:
        """Whether f brings parameters that somebody may differentiate by: compiled products would lose them."""
        with torch.enable_grad(), Draws(self._function.device).again():
            plain = on_tensors(torch.detach, args)
            outs = self._function.bind(plain)(*self._function.leaves(plain))
            parametric = any(t.requires_grad for t in outs)
        if parametric and not self._parametric:
            text = "compile=True runs eagerly, because f has parameters that require grad; see torch.no_grad()"
            warn(text)
        self._parametric = parametric

    def _compiled(self, strategy: Strategy, args: Args, values: torch.Tensor) -> Compiled:
        """The compiled program of ``strategy``, or its eager one where that does not give ``values``."""
        options = self.options.compile if isinstance(self.options.compile, dict) else {}
        graph = strategy.program(args).graph if isinstance(strategy, Accumulated) else None
        constants = [c for side in strategy.sides for c in side.constants]
        program = Compiled(strategy.values, args, constants, options, graph)
        program.compare(args, values)
        return program

    def _products(self, args: Args, draws: Draws | None = None) -> torch.Tensor:
        """The values; by reverse mode from now on, where PyTorch refuses the forward products that auto chose."""
        try:
            return self._strategy.values(args)
        except OptionError as error:
            if self.options.mode != "auto" or self.mode == "reverse":
                raise
            warn(f"reverse mode from now on: {error.why}")
        self._strategy = self._prepare("reverse", args)
        if draws is not None:
            draws.replay()
        return self._strategy.values(args)

    def _probed(self, args: Args, draws: Draws) -> torch.Tensor:
        """Values that the probe agrees with: where a formula of PyTorch is wrong, another way may be right."""
        while True:
            values = self._products(args, draws)
            try:
                self._verify(args, values, draws)
            except DerivativeMismatchError as error:
                if not self._reject():
                    if self.options.mode != "auto" or self.mode == "reverse":
                        raise
                    self._strategy = self._prepare("reverse", args)
                warn(f"products run in another way from now on, because {error}")
                draws.replay()
            else:
                return values

    def _with_right_gradient(self, args: Args, values: torch.Tensor, draws: Draws) -> torch.Tensor:
        def to_reverse() -> None:
            self._strategy = self._prepare("reverse", args)

        products = Changeable(
            values=lambda: self._products(args, draws),
            mode=lambda: self.mode,
            reject=self._reject,
            to_reverse=to_reverse if self.options.mode == "auto" else None,
            combination=self._combination,
        )
        return with_right_gradient(self._function, args, values, draws, products)

    def _reject(self) -> bool:
        """Never again run products as they ran last; False where there is no other way."""
        return any(p.reject() for p in self._strategy.products)

    def _verify(self, args: Args, values: torch.Tensor, draws: Draws) -> None:
        """Raise unless ``values``, on the random numbers ``draws``, are f's Jacobian at ``args``."""
        if self.options.entries is None:
            ran = self._engines["reverse"].ran
            reverse = None if ran is None else ran.again(args)
            probe(self._function, args, self.pattern, values, draws, self._strategy.values, reverse=reverse)
        else:
            probe_some(self._some, args, values, draws, self._strategy.values)

    def _combination(self, values: torch.Tensor) -> Combination:
        """A number made of J, whose gradient is compared with that of plain autograd twice."""
        if self.options.entries is None:
            return all_entries(self._function, self.pattern, values)
        return some_entries(self._some)

    @property
    def _some(self) -> Some:
        coloring = self.coloring
        assert isinstance(coloring, (ColumnColors, RowColors))  # of one side, see choose_some
        return Some(self._function, self.pattern, coloring, self._strategy.sides)
