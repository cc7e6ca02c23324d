"""The plan: everything about a Jacobian that does not depend on the numbers in x, prepared once.

    function -> pattern (detection) -> colors (coloring) -> products -> values (decompression) -> matrices

This is the only module that knows all stages; each stage is replaceable without the others noticing.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from ._accumulated import Accumulated
from ._accumulation import CannotAccumulateError
from ._assembly import Assembly
from ._budget import TooSmallError, fit_chunks, least_of
from ._candidates import Choice, choose, choose_some, worth_accumulating
from ._colored import Colored
from ._colors import Coloring, ColumnColors, RowColors
from ._compiled import Compiled, Values
from ._dense import Dense
from ._detection import detect, glance, is_cheap
from ._draws import Draws
from ._equations import Places
from ._errors import DerivativeMismatchError, FileError, OptionError, PatternError, SignatureError, TorchjacWarning
from ._explain import Facts, explain
from ._function import Argnums, Choices, FlatFunction, ordinary, refuse_complex
from ._gradient import Changeable, with_right_gradient
from ._memory import peak_bytes
from ._operator import JacobianOperator
from ._options import Options
from ._pattern import SparsityPattern, as_pattern, wanted_entries
from ._probe import Combination, all_entries, probe, probe_bytes
from ._probe_entries import Some, probe_some, some_entries
from ._products import Direction
from ._progress import progress
from ._ranks import Work, measure, table
from ._saving import Saved, write
from ._side import Strategy, engines, seconds_of
from ._types import Mode
from .report import write_report


class JacobianPlan:
    """``plan(*args) -> J`` for every ``args`` like those it was made with.

    >>> import torch, torchjac as tj
    >>> plan = tj.plan_jacobian(lambda x: x[1:] * x[:-1], torch.rand(5), layout=torch.sparse_csr)
    >>> plan.num_products, plan.pattern.nnz
    (2, 8)
    >>> plan(torch.arange(5.0)).values()
    tensor([1., 0., 2., 1., 3., 2., 4., 3.])

    Attributes
    ----------
    pattern: the (m, n) SparsityPattern.
    coloring: which columns or rows share a product; None for a dense Jacobian.
    mode: "forward", "reverse", "bidirectional" or "accumulate".
    num_products: JVPs or VJPs of one call.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        args: tuple[Any, ...],
        argnums: Argnums,
        options: Options,
        saved: Saved | None = None,
        once: bool = False,
    ) -> None:
        self.options, self._once = options, once
        self.seconds: dict[str, float] = {}
        self._function = FlatFunction(f, args, argnums, options.has_aux)
        self._engines = engines(self._function)
        self._choice: Choice
        if saved is None:
            with ordinary(args) as own:
                self.pattern = self._stored(self._find_pattern(own))
                refuse_complex(self._function)
                self._strategy: Strategy = self._prepare(self._wanted_mode(), own)
        else:
            self.pattern = self._stored(saved.pattern)
            self._function.expect(saved.output)
            self._strategy = self._restored(saved)
            self.seconds = dict(saved.seconds)
        start = time.perf_counter()
        self._assembly = Assembly(self._function, self.pattern, options)
        if options.blocksize is not None:
            self.seconds["blocks"] = time.perf_counter() - start
        self._checked_for: Choices | None = None
        self._program: Values | None = None
        self._gradient_checked = self._parametric = False
        self.shared: dict[Any, Any] = {}  # what ``distributed`` prepared for groups of ranks

    # ---- what it is

    @property
    def coloring(self) -> Coloring | None:
        """Which columns or rows share a product; None for a dense Jacobian."""
        return self._choice.coloring

    @property
    def mode(self) -> Mode:
        """What builds the Jacobian: products "forward", "reverse" or "bidirectional", or a program ("accumulate")."""
        return self._strategy.mode

    @property
    def num_products(self) -> int:
        """How many products one call takes."""
        return self._strategy.num_products

    @property
    def chunk(self) -> int:
        """How many products run at once."""
        return max((p.chunk for p in self._strategy.products), default=1)

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): ravelled outputs and inputs."""
        return self.pattern.shape

    def explain(self, *args: Any, ranks: int | Sequence[int] = ()) -> str:
        """What was found, what was chosen and why, as text.

        With ``ranks``, such as ``plan.explain(x, ranks=(2, 8, 64, 1024))``, also what a call of
        ``torchjac.distributed.jacobian`` would take on so many: time, bytes moved and memory, predicted from what a
        product costs at ``args``, measured now.
        """
        text = explain(self._facts())
        sizes = (ranks,) if isinstance(ranks, int) else tuple(ranks)
        if not sizes:
            return text
        if min(sizes) < 1:
            raise OptionError(f"ranks={ranks!r}", expected="numbers of processes, such as ranks=(2, 8, 64, 1024)")
        return "\n".join([text, *table(self._work(args), sizes)])

    def _work(self, args: tuple[Any, ...]) -> Work:
        """What there is to share among ranks, measured at ``args``."""
        self._function.check(args)
        work: list[Work] = []

        def run() -> torch.Tensor:
            given = self._function, own, self._strategy, self.pattern, self.coloring, self._choice.direction
            work[:] = [measure(*given)]
            return torch.empty(0)

        with torch.no_grad(), ordinary(args) as own, Draws(self._function.device).again():
            self._guarded(run)
            compiled = self._program
            if compiled is None:
                return work[0]
            return work[0].taking(seconds_of(lambda: compiled(own)))  # the same shape of costs, at another scale

    def __repr__(self) -> str:
        m, n = self.shape
        return (
            f"{type(self).__name__}({m} x {n}, {self.pattern.nnz:,} entries, {self.num_products} products, {self.mode})"
        )

    # ---- what it does

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """The Jacobian at ``args``, in the layout and nesting that were asked for; (J, aux) with has_aux."""
        _refuse_keywords(keywords)
        if not self.options.has_aux:
            return self._assemble(self.values(*args))
        (_, aux), result = self.value_and_jacobian(*args)
        return result, aux

    def values(self, *args: Any) -> torch.Tensor:
        """The values of the pattern's entries at ``args``: (nnz,), row-major, differentiable."""
        self._function.check(args)
        with ordinary(args) as own, progress("evaluation", self.options.progress, counted=True):
            return self._evaluate(own)

    def matrix(self, *args: Any) -> Any:
        """The (m, n) SparseMatrix at ``args``, pattern and values: products, ``.T``, ``.gram()``, differentiable.

        With a block layout: the BlockMatrix of each output and input, nested as the result of the plan is.
        """
        return self._assembly.matrix(self.values(*args))

    def operator(self, *args: Any) -> JacobianOperator:
        """The (m, n) Jacobian at ``args``, known by its products: ``@``, ``.T``, ``A[i, j]``; it knows the pattern."""
        self._function.check(args)
        with ordinary(args) as own:
            return JacobianOperator.of_plan(
                self._function,
                own,
                self.pattern,
                lambda: self.values(*own),
                self.num_products,
                lambda: self._vouch(own),
            )

    def _vouch(self, args: tuple[Any, ...]) -> None:
        """The check that a call with ``args`` would make."""
        checked = self._checked_for is not None and self._checked_for.same(self._function.choices(args))
        if self.options.check == "always" or (self.options.check and not checked):
            self._evaluate(args)

    def value_and_jacobian(self, *args: Any) -> tuple[Any, Any]:
        """(f(*args), J); one more evaluation of f. With has_aux, f(*args) is the pair (output, aux)."""
        draws = Draws(self._function.device)
        result = self._assemble(self.values(*args))
        with draws.again():  # the value that the Jacobian belongs to
            return self._function.call(args), result

    def check(self, *args: Any) -> None:
        """Compare the Jacobian at ``args`` with an independent product; raise if they differ. About two products."""
        self._function.check(args)
        draws = Draws(self._function.device)
        with torch.no_grad(), ordinary(args) as own:
            values = self._strategy.values(own)
            self._verify(own, values, draws)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all but the function to a file (.npz, no pickle), for ``torchjac.load_plan(path, f)``."""
        if self.options.entries is not None:
            raise FileError(
                "a plan of some of the entries",
                expected="a plan of all",
                why="a file holds the entries of a plan, and not the pattern around them",
                instead="plan_jacobian(f, *args, entries=...) again, with sparsity= to skip detection",
            )
        args, output = self._function.examples()
        saved = Saved(
            args,
            output,
            self._function.argnums,
            self.options,
            self._whole_pattern,
            self.coloring,
            self.mode,
            self.seconds,
        )
        write(path, saved)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML page, without need of a network: the pattern to zoom into, colors, strategies, source lines.

        >>> import torch, torchjac as tj
        >>> tj.plan_jacobian(lambda x: x[1:] * x[:-1], torch.rand(50)).report("report.html")

        f runs once more, to tell which of its lines cost most entries.
        """
        write_report(path, self._facts())

    def plot(self, ax: Any = None) -> Any:
        """Draw the pattern, by matplotlib, in the colors of the products and with lines between inputs and outputs.

        >>> import torch, torchjac as tj
        >>> ax = tj.plan_jacobian(lambda x: x[1:] * x[:-1], torch.rand(50)).plot()

        Returns the axes: ``ax``, or those of a new figure.
        """
        blocks = {
            "row_blocks": [leaf.start for leaf in self._function.outputs[1:]],
            "column_blocks": [leaf.start for leaf in self._function.inputs[1:]],
        }
        coloring = self.coloring
        return self.pattern.plot(ax, **blocks) if coloring is None else coloring.plot(self.pattern, ax, **blocks)

    def _repr_html_(self) -> str:
        text = escape(self.explain())
        return f'<div style="display:flex;gap:1em;align-items:start">{self.pattern._thumbnail()}<pre>{text}</pre></div>'

    # ---- how

    def _facts(self) -> Facts:
        return Facts(
            self.pattern,
            self.mode,
            self.num_products,
            self.chunk,
            self.seconds,
            detected=isinstance(self.options.sparsity, str),
            choice=self._choice,
            memory=self.options.budget,
            itemsize=self._function.dtype.itemsize,
            whole=self._whole_pattern.nnz,
            blocks=self._assembly.blocks,
            inputs=tuple(self._function.inputs),
            outputs=tuple(self._function.outputs),
        )

    def _find_pattern(self, args: tuple[Any, ...]) -> SparsityPattern:
        start = time.perf_counter()
        sparsity = self.options.sparsity
        if isinstance(sparsity, str):
            with Draws(self._function.device).again(), progress("detection", self.options.progress):
                pattern = self._detect(args)
        else:
            with torch.no_grad(), Draws(self._function.device).again():  # f runs once, to see what it returns
                self._function.bind(args)(*(leaf.detach() for leaf in self._function.leaves(args)))
            shape = (self._function.m, self._function.n)
            pattern = SparsityPattern.full(shape) if sparsity is None else as_pattern(sparsity)
            if pattern.shape != shape:
                raise PatternError(
                    f"sparsity of shape {pattern.shape}",
                    expected=f"shape {shape}: {shape[0]} ravelled outputs by {shape[1]} ravelled inputs",
                    why="a row is an element of the output and a column an element of the inputs that argnums names",
                    instead="jacobian_sparsity(f, *args) for the pattern of this function",
                )
        self.seconds["detection"] = time.perf_counter() - start
        return pattern

    def _detect(self, args: tuple[Any, ...]) -> SparsityPattern:
        dense_once = self._once and self.options.layout is torch.strided and self.options.mode == "auto"
        return (glance if dense_once else detect)(self._function, args)

    def _stored(self, pattern: SparsityPattern) -> SparsityPattern:
        """The entries that values are given for: all of them, or those that were asked for.

        A pattern that may miss some of the latter is not asked: those are computed too.
        """
        self._whole_pattern = pattern
        if self.options.entries is None:
            return pattern
        wanted = wanted_entries(self.options.entries, pattern.shape)
        if pattern.scope == "local" or not isinstance(self.options.sparsity, str):
            self._whole_pattern = pattern | wanted
        return self._whole_pattern & wanted

    def _verify(self, args: tuple[Any, ...], values: torch.Tensor, draws: Draws) -> None:
        """Raise unless ``values``, on the random numbers ``draws``, are f's Jacobian at ``args``."""
        if self.options.entries is None:
            probe(self._function, args, self.pattern, values, draws, self._strategy.values)
        else:
            probe_some(self._some, args, values, draws, self._strategy.values)

    def _combination(self, values: torch.Tensor) -> Combination:
        """A number made of J, whose gradient is compared with that of plain autograd twice."""
        if self.options.entries is None:
            return all_entries(self._function, self.pattern, values)
        return some_entries(self._some)

    @property
    def _entries(self) -> Places | None:
        """Which of all entries are stored; None for every one."""
        return None

    def _guarded(self, run: Callable[[], torch.Tensor]) -> torch.Tensor:
        """``run()``, which runs products of this plan's function."""
        return run()

    @property
    def _some(self) -> Some:
        coloring = self.coloring
        assert isinstance(coloring, (ColumnColors, RowColors))  # of one side, see choose_some
        return Some(self._function, self.pattern, coloring, self._strategy.sides)

    def _wanted_mode(self) -> Mode:
        if self.options.mode != "auto":
            return self.options.mode
        unseen = self._once and self._is_full() and is_cheap(*self.shape)  # whether there are forward formulas
        return "reverse" if unseen or any(note.op == "forward mode" for note in self.pattern.notes) else "auto"

    def _is_full(self) -> bool:
        m, n = self.shape
        return 0 < m * n == self.pattern.nnz

    def _prepare(self, mode: Mode, args: tuple[Any, ...]) -> Strategy:
        """The strategy for ``mode``; for "auto" the one predicted to cost least of those that fit the memory."""
        if mode == "accumulate":
            return self._accumulating(self._prepare_products("auto", args), args, asked=True)
        strategy = self._prepare_products(mode, args)
        if (
            mode == "auto"
            and not self._once
            and worth_accumulating(self.pattern, strategy.num_products, bool(self.options.compile))
        ):
            return self._accumulating(strategy, args, asked=False)
        return strategy

    def _accumulating(self, products: Strategy, args: tuple[Any, ...], asked: bool) -> Strategy:
        """Direct accumulation where it is possible and, unless asked for, faster than ``products``."""
        start, program = time.perf_counter(), self._accumulated(products.num_products)
        with torch.no_grad():
            try:
                program.prepare(args)
            except CannotAccumulateError as error:
                self._choice = self._choice.without_accumulation(str(error))
                if asked:
                    warnings.warn(
                        f"mode='accumulate' uses colors here, because of {error}", TorchjacWarning, stacklevel=6
                    )
                return products
            others = seconds_of(lambda: products.values(args))
        self.seconds["accumulation"] = time.perf_counter() - start
        chosen = asked or (program.seconds < others and self._fits(program, args))
        self._choice = self._choice.with_accumulation(str(program), program.seconds, others, chosen, asked)
        return program if chosen else products

    def _accumulated(self, products: int) -> Accumulated:
        part = self.pattern is not self._whole_pattern
        detected = isinstance(self.options.sparsity, str) and products > 0
        return Accumulated(self._function, self.pattern, products, part, detected)

    def _fits(self, program: Accumulated, args: tuple[Any, ...]) -> bool:
        budget = self.options.budget
        return budget is None or peak_bytes(lambda: program.values(args)) <= budget

    def _prepare_products(self, mode: Mode, args: tuple[Any, ...]) -> Strategy:
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

    def _prepare_one(self, mode: Mode, args: tuple[Any, ...]) -> Strategy:
        start = time.perf_counter()
        with torch.no_grad(), Draws(self._function.device).again(), progress("coloring", self.options.progress):
            self._choice = self._choose(mode, lambda: args)
            strategy = self._strategy_for(self._choice)
            self.seconds["coloring"] = time.perf_counter() - start
            self._fit(strategy, args)
        self._fitted, self._program = True, None
        return strategy

    def _fit(self, strategy: Strategy, args: tuple[Any, ...]) -> None:
        budget = self.options.budget
        check = (
            0 if budget is None or not self.options.check else probe_bytes(self._function, args, self._whole_pattern)
        )
        fit_chunks(strategy, self._function, args, budget, check, once=self._once)

    def _choose(self, mode: Mode, measuring: Callable[[], tuple[Any, ...]]) -> Choice:
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

    def _evaluate(self, args: tuple[Any, ...]) -> torch.Tensor:
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

    def _wants_graph(self, args: tuple[Any, ...]) -> bool:
        """Whether somebody may differentiate J: by any argument, or by parameters that f brings along."""
        if not torch.is_grad_enabled():
            return False
        given = (t.requires_grad for t in tree_leaves(args) if isinstance(t, torch.Tensor))
        return self._parametric or any(given)

    def _wants_eager(self, args: tuple[Any, ...]) -> bool:
        return not getattr(self._program, "differentiable", False) and self._wants_graph(args)

    def _compile(self, args: tuple[Any, ...], values: torch.Tensor) -> None:
        """From the next call on, run the compiled program, where it exists and gives the same."""
        options = self.options.compile if isinstance(self.options.compile, dict) else {}
        if isinstance(self._strategy, Accumulated):
            graph = self._strategy.program(args).graph
            self._program = self._agreeing(Compiled(self._strategy.values, args, (), options, graph), args, values)
            return
        with torch.enable_grad(), Draws(self._function.device).again():
            plain = tree_map(lambda t: t.detach() if isinstance(t, torch.Tensor) else t, args)
            outs = self._function.bind(plain)(*self._function.leaves(plain))
            parametric = any(t.requires_grad for t in outs)
        if parametric and not self._parametric:
            text = "compile=True runs eagerly, because f has parameters that require grad; see torch.no_grad()"
            warnings.warn(text, TorchjacWarning, stacklevel=5)
        self._parametric = parametric
        if values.requires_grad or self._wants_graph(args):
            return
        constants = [c for side in self._strategy.sides for c in side.constants]
        self._program = self._agreeing(Compiled(self._strategy.values, args, constants, options), args, values)

    def _agreeing(self, program: Compiled, args: tuple[Any, ...], values: torch.Tensor) -> Values:
        return program if program.agrees(args, values) else self._strategy.values

    def _products(self, args: tuple[Any, ...], draws: Draws | None = None) -> torch.Tensor:
        """The values; by reverse mode from now on, where PyTorch refuses the forward products that auto chose."""
        try:
            return self._strategy.values(args)
        except OptionError as error:
            if self.options.mode != "auto" or self.mode == "reverse":
                raise
            warnings.warn(f"reverse mode from now on: {error.why}", TorchjacWarning, stacklevel=5)
        self._strategy = self._prepare("reverse", args)
        if draws is not None:
            draws.replay()
        return self._strategy.values(args)

    def _probed(self, args: tuple[Any, ...], draws: Draws) -> torch.Tensor:
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
                warnings.warn(f"products run in another way from now on, because {error}", TorchjacWarning, 6)
                draws.replay()
            else:
                return values

    def _with_right_gradient(self, args: tuple[Any, ...], values: torch.Tensor, draws: Draws) -> torch.Tensor:
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

    def _assemble(self, values: torch.Tensor) -> Any:
        return self._assembly.result(values)


def _refuse_keywords(keywords: dict[str, Any]) -> None:
    if keywords:
        name = next(iter(keywords))
        raise SignatureError(
            f"the plan was called with the keyword argument {name}=",
            expected="the arguments of f by position, as plan_jacobian(f, *args) got them",
            instead=f"plan_jacobian(functools.partial(f, {name}=...), *args), with the keywords fixed beforehand",
        )
