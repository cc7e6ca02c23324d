"""Evaluation of a plan: products or a program, verified on the first call, changed where they turn out wrong.

what runs is settled?  -> run it
first call             -> run, verify, change what is wrong, verify the gradient, compile
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch.utils._pytree import tree_leaves

from .._base.errors import DerivativeMismatchError, InputError, OptionError, StalePatternError
from .._base.random_state import RandomState
from .._base.user_frame import warn
from .._base.words import Args
from .._function.captured import Captured
from .._function.flat import FlatFunction, on_tensors
from .._function.frozen import Frozen, floats_as_tensors, has_floats
from .._function.signature import Choices
from .._products.cost import seconds_of
from .._products.run import inside_transform
from .._strategies.accumulated import Accumulated
from .._strategies.compiling.compiled import Compiled
from .._strategies.forecast import Work, measure
from .._strategies.strategy import Strategy
from .._tangent.delicate import BATCH_GRADIENT, FORWARD_GRADIENT
from .._verification.gradient_probe import Changeable, Combination, with_right_gradient
from .prepare import Prepared, Undecided, fitted, forward_is_doubtful, prepare, wanted_mode
from .retrying import retried

_VERIFIED = 16  # times that values are verified because f reads something else
_COMPILED = 3  # programs that are compiled because f reads something else


class Evaluator:
    """The values of a plan at given arguments, and all of a plan that ever changes.

    prepared: what runs now. program: it compiled, once that is done.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.program: Compiled | None = None
        self._options = prepared.goal.options
        self._check = self._options.check  # "always" from now on, where the kind of derivative has a doubt
        self._checked_for: Choices | None = None
        self._state: Captured | None = None  # what f read beside its arguments when it was checked
        self._verified = 0
        self._compiled_for: Frozen | None = None
        self._compiled_before = 0
        self._floats_as_tensors = False
        self._gradient_checked = self._parametric = False
        # found for values by which f decides what it reads: then every call is checked
        self._local = prepared.goal.whole.scope == "local" and isinstance(self._options.sparsity, str)
        self.patterns_found = 0  # anew, where f decides by values what it reads
        self._all_bare = prepared.goal.function.all_bare  # no argument is left that may decide which inputs f reads

    @property
    def function(self) -> FlatFunction:
        """f, as it is computed now."""
        return self.prepared.goal.function

    @property
    def reference(self) -> FlatFunction:
        """The function by plain autograd alone: what its derivatives are compared with."""
        return self.prepared.kind.reference(self.prepared.goal)

    def values(self, args: Args) -> torch.Tensor:
        """(nnz,): the values of the entries that are stored."""
        if not self._settled:
            return self._values(args)
        strategy = self.prepared.strategy
        random = any(side.products.random for side in strategy.sides)
        draws = RandomState(self.function.device) if random else None
        try:
            values = strategy.values(args)
        except (RuntimeError, InputError, OptionError):  # raised again, unless f can be computed in another way
            if draws is not None:
                draws.replay()
            values = self._products(args, draws)
        if self._gradient_checked or not self._check or not torch.is_grad_enabled():
            return values
        if not values.requires_grad and not _requires_grad(args):
            return values
        if draws is not None:
            draws.replay()
        return self._values(args)  # somebody may differentiate J for the first time

    @property
    def _settled(self) -> bool:
        """Whether there is nothing to do but to run what is prepared."""
        checked = not self._check or (
            not self._local
            and self._check == "first"
            and self._checked_for is not None
            and self._all_bare
            and self._state_holds
        )
        return checked and self.prepared.fitted and not self._options.compile

    @property
    def _state_holds(self) -> bool:
        return self._state is None or self._state.holds()

    def _values(self, args: Args) -> torch.Tensor:
        if inside_transform():  # nothing can be compared there: the first call outside is checked
            return self._products(args)
        if not self.prepared.fitted:
            with torch.no_grad(), RandomState(self.function.device).again():
                self.prepared = fitted(self.prepared, args)
        if not self._check and not self._options.compile:
            return self._products(args)
        choices = self.function.choices(args)  # with other indices or flags the pattern may be another
        first = self._checked_for is None or not self._checked_for.same(choices) or not self._state_holds
        if self.program is not None and not self._holds(args):
            self._drop_program(args)
        always = self._check == "always" or (self._check == "first" and self._local)
        if self.program is not None and not first and not always and not self._wants_eager(args):
            return self.program(self._given(args))
        state = Captured(self.function.source) if first else None
        probing = always or (first and self._check == "first")
        draws = RandomState(self.function.device)
        values = self._probed(args, draws) if probing else self._products(args, draws)
        if state is not None:
            self._remember(choices, state)
        wanted = values.requires_grad or any(leaf.requires_grad for leaf in self.function.leaves(args))
        missable = probing and self.prepared.mode != "reverse"  # a forward formula may have lost f's parameters
        if self._check and torch.is_grad_enabled() and not self._gradient_checked and (wanted or missable):
            if wanted and self._turn_to_right_gradients(args):
                draws.replay()
                values = self._products(args, draws)
            values = self._with_right_gradient(args, values, draws)
            self._gradient_checked = wanted and not self._gradients_are_doubtful
        if self._options.compile and self.program is None:
            self._compile(args, values)
        return values

    def _remember(self, choices: Choices, state: Captured) -> None:
        """Remember for what the values were verified; what f changes itself, or always, is not looked at."""
        state.forget_changed()
        self._checked_for, self._verified = choices, self._verified + 1
        self._state = None if state.empty or self._verified > _VERIFIED else state

    def vouch(self, args: Args) -> None:
        """Make the check that a call with ``args`` would make."""
        checked = self._checked_for is not None and self._checked_for.same(self.function.choices(args))
        if self._check == "always" or (self._check and not checked):
            self.values(args)

    def check(self, args: Args) -> None:
        """Raise unless the values at ``args`` are f's derivatives there."""
        draws = RandomState(self.function.device)
        with torch.no_grad():
            self.verify(args, self.prepared.strategy.values(args), draws)

    def verify(self, args: Args, values: torch.Tensor, draws: RandomState) -> None:
        """Raise unless ``values``, on the random numbers ``draws``, are f's derivatives at ``args``."""
        now = self.prepared
        now.kind.verify(now.goal, now.choice, now.strategy, args, values, draws)
        if self._check == "first" and (doubt := now.kind.doubt(now.goal) or _doubt_of_mode(now)):
            self._check = "always"
            warn(f"{doubt}; every call is checked")

    def work(self, args: Args) -> Work:
        """The work that ranks can share, measured at ``args``."""
        now, kind = self.prepared, self.prepared.kind

        def measured(function: FlatFunction) -> Work:
            goal, choice = now.goal, now.choice
            return measure(function, args, now.strategy, goal.stored, choice.coloring, choice.direction)

        work = retried(now.goal.function, kind.instead, measured)[1]
        program = self.program
        # compiled, costs have the same shape, at another scale
        return work if program is None else work.taking(seconds_of(lambda: program(args)))

    # ---- products, and what else there is where they are refused or wrong

    def _products(self, args: Args, draws: RandomState | None = None) -> torch.Tensor:
        """The values; by reverse mode from now on, where PyTorch refuses the forward products that auto chose."""
        try:
            return self._run(args, draws)
        except OptionError as error:
            if not self._may_turn_to_reverse:
                raise
            warn(f"reverse mode from now on: {error.why}")
        self._to_reverse(args)
        if draws is not None:
            draws.replay()
        return self._run(args, draws)

    def _run(self, args: Args, draws: RandomState | None) -> torch.Tensor:
        """The values by what is prepared, on another way to compute f from now on where PyTorch refuses this one."""
        prepared, kind = self.prepared, self.prepared.kind
        used, again = [prepared], _nothing if draws is None else draws.replay

        def values(function: FlatFunction) -> torch.Tensor:
            used[0] = prepared if function is prepared.goal.function else prepared.on(function)
            return used[0].strategy.values(args)

        _, found = retried(prepared.goal.function, kind.instead, values, again)
        self.prepared = used[0]
        return found

    def _probed(self, args: Args, draws: RandomState) -> torch.Tensor:
        """Values that the probe agrees with: where a formula of PyTorch is wrong, another way may be right."""
        found_anew = False
        while True:
            values = self._products(args, draws)
            try:
                self.verify(args, values, draws)
            except StalePatternError:
                if found_anew or not self._local or self._check != "first":
                    raise
                found_anew = True
                self._find_pattern_anew(args)
                draws.replay()
            except DerivativeMismatchError as error:
                if not self._run_otherwise(args):
                    raise
                warn(f"products run in another way from now on, because {error}")
                draws.replay()
            else:
                return values

    def _run_otherwise(self, args: Args) -> bool:
        """Run products from now on in a way that is not known to be wrong; False where there is none."""
        reference = self.reference
        if reference is not self.function and self._options.mode != "forward":  # no other is as sure to be right
            self._adopt(prepare(self.prepared.goal.on(reference), self.prepared.kind, "reverse", args))
        elif not self._reject():
            if not self._may_turn_to_reverse:
                return False
            self._to_reverse(args)
        return True

    @property
    def _may_turn_to_reverse(self) -> bool:
        return self._options.mode in ("auto", "accumulate") and self.prepared.mode != "reverse"

    def _to_reverse(self, args: Args) -> None:
        self._adopt(prepare(self.prepared.goal, self.prepared.kind, "reverse", args))

    def _adopt(self, prepared: Prepared) -> None:
        """Run ``prepared`` from now on."""
        self.prepared = replace(prepared, seconds={**self.prepared.seconds, **prepared.seconds})
        self.program = None

    def _find_pattern_anew(self, args: Args) -> None:
        """Take the pattern at ``args`` from now on."""
        now = self.prepared
        goal = now.kind.goal(self.function, args, self._options, False, None)
        if not self.patterns_found:
            warn("the pattern is found anew where f reads other inputs, because f decides by values what it reads")
        self._adopt(prepare(goal, now.kind, wanted_mode(goal), args))
        self._local = goal.whole.scope == "local"
        self.patterns_found += 1

    def _reject(self) -> bool:
        """Never again run products as they ran last; False where there is no other way."""
        return any(side.products.reject() for side in self.prepared.strategy.sides)

    # ---- gradients

    @property
    def _gradients_are_doubtful(self) -> bool:
        """Whether those through the mode that runs are wrong at some values of an op in f: then each is checked."""
        return self.prepared.mode != "reverse" and bool(self.prepared.goal.delicate & FORWARD_GRADIENT)

    def _turn_to_right_gradients(self, args: Args) -> bool:
        """Whether products changed, because gradients through them are wrong at some values of an op in f."""
        now = self.prepared
        if self._gradients_are_doubtful and self._options.mode == "auto" and not now.goal.needs_forward:
            self._to_reverse(args)
            return self._turn_to_right_gradients(args) or True
        if not now.goal.delicate & BATCH_GRADIENT:
            return False
        for side in now.strategy.sides:
            side.products.never_batched()
        return True

    def _with_right_gradient(self, args: Args, values: torch.Tensor, draws: RandomState) -> torch.Tensor:
        before = self.prepared

        def to_reference_kernels() -> None:
            self._adopt(before.on(before.kind.with_reference_kernels(before.goal.function)))

        products = Changeable(
            function=lambda: self.function,
            reference=lambda: self.reference,
            values=lambda: self._products(args, draws),
            mode=lambda: self.prepared.mode,
            reject=self._reject,
            to_reverse=partial(self._to_reverse, args) if self._options.mode == "auto" else None,
            to_reference_kernels=to_reference_kernels,
            back=lambda: self._adopt(before),
            combination=self._combination,
        )
        return with_right_gradient(args, values, draws, products)

    def _combination(self, values: torch.Tensor) -> Combination:
        now = self.prepared
        return now.kind.combination(now.goal, now.choice, now.strategy, values)

    # ---- compiled

    def _given(self, args: Args) -> Args:
        """The arguments as the compiled program takes them."""
        strategy = self.prepared.strategy
        if isinstance(strategy, Accumulated):
            return strategy.given(args)
        return floats_as_tensors(self.function, args) if self._floats_as_tensors else args

    def _holds(self, args: Args) -> bool:
        """Whether f reads at ``args`` what it read when the program was compiled."""
        return self._compiled_for is not None and self._compiled_for.same(self._given(args))

    def _drop_program(self, args: Args) -> None:
        """Compile anew what reads other values now; floats become inputs, and what changes always is not compiled."""
        self.program, self._compiled_before = None, self._compiled_before + 1
        self._floats_as_tensors = self._floats_as_tensors or has_floats(self.function, args)
        if self._compiled_before == _COMPILED:
            warn(
                "compile=True runs eagerly from now on, because f reads values beside its tensors that change from "
                "call to call, and a program holds them fixed; pass tensors in their place"
            )

    def _wants_graph(self, args: Args) -> bool:
        """Whether somebody may differentiate J: by any argument, or by parameters that f brings along."""
        return torch.is_grad_enabled() and (self._parametric or _requires_grad(args))

    def _wants_eager(self, args: Args) -> bool:
        assert self.program is not None
        return not self.program.differentiable and self._wants_graph(args)

    def _compile(self, args: Args, values: torch.Tensor) -> None:
        """From the next call on, run the compiled program, where it exists and gives the same."""
        if self._compiled_before >= _COMPILED:
            return
        strategy, undecided = self.prepared.strategy, self.prepared.undecided
        accumulates = isinstance(strategy, Accumulated)
        if not accumulates:
            self._find_parameters(args)
        graph_wanted = values.requires_grad or self._wants_graph(args)
        if graph_wanted and not accumulates:
            return
        compiled_for = Frozen(self.function, self._given(args))
        program = self._compiled(strategy, args, values)
        compiled_for.forget_changed()
        self._compiled_for = compiled_for
        if undecided is not None and not graph_wanted:
            program = self._decide(undecided, program, args, values)
        program.say()
        self.program = program

    def _decide(self, between: Undecided, program: Compiled, args: Args, values: torch.Tensor) -> Compiled:
        """Compile the other candidate too, and keep the faster."""
        accumulates = self.prepared.strategy is between.program
        other = self._compiled(between.products if accumulates else between.program, args, values)
        programs = (program, other) if accumulates else (other, program)
        with torch.no_grad():
            accumulated, products = (seconds_of(partial(program, self._given(args))) for program in programs)
        strategy, choice = between.decided((accumulated, products))
        self.prepared = replace(self.prepared, strategy=strategy, choice=choice, undecided=None)
        if strategy is between.products:
            self._find_parameters(args)
        return programs[strategy is between.products]

    def _find_parameters(self, args: Args) -> None:
        """Whether f brings parameters that somebody may differentiate by: compiled products would lose them."""
        with torch.enable_grad(), RandomState(self.function.device).again():
            plain = on_tensors(torch.detach, args)
            outs = self.function.bind(plain)(*self.function.leaves(plain))
            parametric = any(t.requires_grad for t in outs)
        if parametric and not self._parametric:
            warn("compile=True runs eagerly, because f has parameters that require grad; see torch.no_grad()")
        self._parametric = parametric

    def _compiled(self, strategy: Strategy, args: Args, values: torch.Tensor) -> Compiled:
        """The compiled program of ``strategy``, or its eager one where that does not give ``values``."""
        options = self._options.compile if isinstance(self._options.compile, dict) else {}
        graph = strategy.program(args).graph if isinstance(strategy, Accumulated) else None
        constants = [c for side in strategy.sides for c in side.constants]
        given = strategy.given(args) if isinstance(strategy, Accumulated) else self._given(args)
        program = Compiled(strategy.values, given, constants, options, graph)
        program.compare(given, values)
        return program


def _doubt_of_mode(prepared: Prepared) -> str:
    """The reason why values by the mode that was asked for may be wrong elsewhere."""
    if prepared.mode in ("reverse", "accumulate") or not forward_is_doubtful(prepared.goal):
        return ""
    names = ", ".join(sorted(prepared.goal.delicate))
    return f"the formula that {prepared.mode} mode takes is wrong at some values of an op in f ({names})"


def _nothing() -> None:
    """Do nothing."""


def _requires_grad(args: Args) -> bool:
    """Whether any tensor among the arguments requires grad."""
    leaves = args if all(isinstance(a, torch.Tensor) for a in args) else tree_leaves(args)
    return any(isinstance(t, torch.Tensor) and t.requires_grad for t in leaves)
