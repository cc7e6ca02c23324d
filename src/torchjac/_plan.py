"""The plan: everything about a Jacobian that does not depend on the numbers in x, prepared once.

    function -> pattern (detection) -> colors (coloring) -> products -> values (decompression) -> matrices

This is the only module that knows all stages; each stage is replaceable without the others noticing.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from ._assembly import Assembly
from ._budget import fit_chunks
from ._candidates import Choice, choose, choose_some
from ._colored import Colored
from ._colors import Coloring, ColumnColors, RowColors
from ._compiled import Compiled
from ._dense import Dense
from ._detection import detect
from ._draws import Draws
from ._errors import (
    DerivativeMismatchError,
    FileError,
    InputError,
    OptionError,
    PatternError,
    SignatureError,
    TorchjacWarning,
)
from ._explain import Facts, explain
from ._function import Argnums, Choices, FlatFunction, ordinary
from ._options import Options
from ._pattern import SparsityPattern, as_pattern, wanted_entries
from ._probe import Gradient, all_entries, probe, probe_gradient
from ._probe_entries import Some, probe_some, some_entries
from ._products import Direction
from ._saving import Saved, write
from ._side import Strategy, engines
from ._tangent.kernels import with_reference_kernels
from ._types import Mode


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
    mode: "forward", "reverse" or "bidirectional".
    num_products: JVPs or VJPs of one call.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        args: tuple[Any, ...],
        argnums: Argnums,
        options: Options,
        saved: Saved | None = None,
    ) -> None:
        self.options = options
        self.seconds: dict[str, float] = {}
        self._function = FlatFunction(f, args, argnums, options.has_aux)
        self._engines = engines(self._function)
        self._choice: Choice
        if saved is None:
            with ordinary(args) as own:
                self.pattern = self._whole = self._find_pattern(own)
                if options.entries is not None:
                    self._want(wanted_entries(options.entries, self._whole.shape))
                _refuse_complex(self._function)
                self._strategy: Strategy = self._prepare(self._wanted_mode(), own)
        else:
            self.pattern = self._whole = saved.pattern
            self._function.expect(saved.output)
            self._strategy = self._restored(saved)
            self.seconds = dict(saved.seconds)
        start = time.perf_counter()
        self._assembly = Assembly(self._function, self.pattern, options)
        if options.blocksize is not None:
            self.seconds["blocks"] = time.perf_counter() - start
        self._checked_for: Choices | None = None
        self._program: Callable[[tuple[Any, ...]], torch.Tensor] | None = None
        self._gradient_checked = self._parametric = False

    # ---- what it is

    @property
    def coloring(self) -> Coloring | None:
        """Which columns or rows share a product; None for a dense Jacobian."""
        return self._choice.coloring

    @property
    def mode(self) -> Mode:
        """Which products build the Jacobian: "forward", "reverse" or "bidirectional"."""
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

    def explain(self) -> str:
        """What was found, what was chosen and why, as text."""
        facts = Facts(
            self.pattern,
            self.mode,
            self.num_products,
            self.chunk,
            self.seconds,
            detected=isinstance(self.options.sparsity, str),
            choice=self._choice,
            memory=self.options.budget,
            itemsize=self._function.dtype.itemsize,
            whole=self._whole.nnz,
            blocks=self._assembly.blocks,
        )
        return explain(facts)

    def __repr__(self) -> str:
        m, n = self.shape
        return f"JacobianPlan({m} x {n}, {self.pattern.nnz:,} entries, {self.num_products} products, {self.mode})"

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
        with ordinary(args) as own:
            return self._evaluate(own)

    def matrix(self, *args: Any) -> Any:
        """The (m, n) SparseMatrix at ``args``, pattern and values: products, ``.T``, ``.gram()``, differentiable.

        With a block layout: the BlockMatrix of each output and input, nested as the result of the plan is.
        """
        return self._assembly.matrix(self.values(*args))

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
            self.pattern,
            self.coloring,
            self.mode,
            self.seconds,
        )
        write(path, saved)

    # ---- how

    def _find_pattern(self, args: tuple[Any, ...]) -> SparsityPattern:
        start = time.perf_counter()
        sparsity = self.options.sparsity
        if isinstance(sparsity, str):
            with Draws(self._function.device).again():
                pattern = detect(self._function, args)
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

    def _want(self, entries: SparsityPattern) -> None:
        """Compute only ``entries``. A pattern that may miss some of them is not asked: those are computed too."""
        if self._whole.scope == "local" or not isinstance(self.options.sparsity, str):
            self._whole = self._whole | entries
        self.pattern = self._whole & entries

    def _wanted_mode(self) -> Mode:
        no_forward = any(note.op == "forward mode" for note in self.pattern.notes)
        return "reverse" if self.options.mode == "auto" and no_forward else self.options.mode

    def _prepare(self, mode: Mode, args: tuple[Any, ...]) -> Strategy:
        function, start = self._function, time.perf_counter()
        with torch.no_grad(), Draws(function.device).again():
            if self.options.entries is None:
                choice = self._choice = choose(self.pattern, mode, self._engines, lambda: args)
            else:
                choice = self._choice = choose_some(self._whole, self.pattern, mode, self._engines, lambda: args)
            if choice.coloring is None:
                strategy: Strategy = Dense(function, choice.direction, self._engines)
            else:
                strategy = Colored(function, self.pattern, choice.coloring, self._engines)
            self.seconds["coloring"] = time.perf_counter() - start
            fit_chunks(strategy, function, args, self.options.budget)
        self._fitted, self._program = True, None
        return strategy

    def _restored(self, saved: Saved) -> Strategy:
        """The strategy that was saved; how many products run at once is found on the first call, with real inputs."""
        direction: Direction = "forward" if saved.mode == "forward" else "reverse"
        self._choice = Choice(saved.coloring, direction, (), "as saved")
        self._fitted = False
        if saved.coloring is None:
            return Dense(self._function, direction, self._engines)
        return Colored(self._function, self.pattern, saved.coloring, self._engines)

    def _evaluate(self, args: tuple[Any, ...]) -> torch.Tensor:
        if not self._fitted:
            with torch.no_grad(), Draws(self._function.device).again():
                fit_chunks(self._strategy, self._function, args, self.options.budget)
            self._fitted = True
        if not self.options.check and not self.options.compile:
            return self._products(args)
        choices = self._function.choices(args)  # with other indices or flags the pattern may be another
        first = self._checked_for is None or not self._checked_for.same(choices)
        if first:
            self._program = None
        if self._program is not None and self.options.check != "always" and not self._wants_graph(args):
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

    def _compile(self, args: tuple[Any, ...], values: torch.Tensor) -> None:
        """From the next call on, run the compiled program, where it exists and gives the same."""
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
        options = self.options.compile if isinstance(self.options.compile, dict) else {}
        program = Compiled(self._strategy.values, args, constants, options)
        self._program = program if program.agrees(args, values) else self._strategy.values

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
                if not any(p.reject() for p in self._strategy.products):
                    if self.options.mode != "auto" or self.mode == "reverse":
                        raise
                    self._strategy = self._prepare("reverse", args)
                warnings.warn(f"products run in another way from now on, because {error}", TorchjacWarning, 6)
                draws.replay()
            else:
                return values

    def _verify(self, args: tuple[Any, ...], values: torch.Tensor, draws: Draws) -> None:
        """Raise unless ``values``, on the random numbers ``draws``, are f's Jacobian at ``args``."""
        if self.options.entries is None:
            probe(self._function, args, self.pattern, values, draws, self._strategy.values)
        else:
            probe_some(self._some, args, values, draws, self._strategy.values)

    @property
    def _some(self) -> Some:
        coloring = self.coloring
        assert isinstance(coloring, (ColumnColors, RowColors))  # of one side, see choose_some
        return Some(self._function, self.pattern, coloring, self._strategy.sides)

    def _with_right_gradient(self, args: tuple[Any, ...], values: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Some formulas have wrong derivatives, or none: verify once, and change to products that have right ones."""
        fast, first, news = self._function.f, values, dict[str, None]()
        while True:
            if self.options.entries is None:
                combination = all_entries(self._function, self.pattern, values)
            else:
                combination = some_entries(self._some)
            found = probe_gradient(self._function, args, combination, values, draws, finite=self.mode != "reverse")
            if found.missing and self._function.f is not fast:
                self._function.f, values = fast, first
                news = {f"no gradient passes through this Jacobian, because PyTorch said: {found.missing}": None}
                break
            if found.right or not self._change_for_gradient(args, found, news):
                break
            draws.replay()
            values = self._products(args, draws)
        for text in news:
            warnings.warn(text, TorchjacWarning, stacklevel=5)
        return values

    def _change_for_gradient(self, args: tuple[Any, ...], found: Gradient, news: dict[str, None]) -> bool:
        """Run products otherwise, and say so in ``news``; False where nothing is plainer than what ran."""
        if found.missing:
            self._function.f = with_reference_kernels(self._function.f)
            news[f"f runs on kernels that can be differentiated twice from now on, because {found.missing}"] = None
        elif self.mode == "reverse":
            if not any(p.reject() for p in self._strategy.products):
                return False
            news["products run in another way from now on: gradients through batches of them are wrong here"] = None
        elif self.options.mode == "auto":
            self._strategy = self._prepare("reverse", args)
            news["reverse mode from now on: gradients through forward mode are wrong here"] = None
        else:
            raise DerivativeMismatchError(
                f"the gradient of this Jacobian in {self.mode} mode is not that of reverse-over-reverse",
                why="PyTorch's forward formula of an op in f is right, its derivative is not (pytorch#198017)",
                instead="mode='auto' or mode='reverse', or torch.no_grad() if no gradient is needed",
            )
        return True

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


def _refuse_complex(function: FlatFunction) -> None:
    instead = "lambda x: torch.view_as_real(f(x)), or .real or .abs() of what f returns"
    if any(leaf.dtype.is_complex for leaf in function.inputs):
        instead = "lambda z: torch.view_as_real(f(torch.view_as_complex(z))), with z = torch.view_as_real(x)"
    for leaf in (*function.inputs, *function.outputs):
        if leaf.dtype.is_complex:
            raise InputError(
                f"{leaf} is complex",
                expected="real inputs and outputs",
                why="a complex function has a derivative by real and one by imaginary parts, and conventions differ",
                instead=instead,
            )
