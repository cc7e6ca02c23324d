"""The plan: everything about a Jacobian that does not depend on the numbers in x, prepared once.

    function -> pattern (detection) -> colors (coloring) -> products -> values (decompression) -> matrices

Which strategy runs is chosen in ``_choosing``, and run and verified in ``_evaluating``: with this module the only ones
that know all stages; each stage is replaceable without the others noticing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import torch

from .._base.errors import FileError, OptionError, PatternError, SignatureError
from .._base.progress import progress
from .._base.random_state import Draws
from .._base.words import Args, UserFunction
from .._coloring.equations import Places
from .._detection.dense_or_not import pattern_or_full
from .._detection.detect import detect
from .._function.flat import Argnums, Choices, FlatFunction, ordinary, refuse_complex
from .._matrices.pattern import SparsityPattern, as_pattern, wanted_entries
from .._operators.jacobian import JacobianOperator
from .._products.cost import seconds_of
from .._products.run import Run
from .._products.seeded import Strategy, engines
from .._strategies.candidates import Choice
from .._strategies.compiling.compiled import Compiled
from .._strategies.forecast import Work, measure, table
from .evaluate import Evaluating
from .options import Options
from .report.explain import Facts, explain
from .report.page import write_report
from .result import Assembly
from .saving import Saved, write


class JacobianPlan(Evaluating):
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
        f: UserFunction,
        args: Args,
        argnums: Argnums,
        options: Options,
        saved: Saved | None = None,
        once: bool = False,
        run: Run | None = None,
    ) -> None:
        self.options, self._once = options, once
        self.seconds: dict[str, float] = {}
        self._function = FlatFunction(f, args, argnums, options.has_aux) if run is None else run.function
        self._engines = engines(self._function)
        self._engines["reverse"].ran = run
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
        self._program: Compiled | None = None
        self._gradient_checked = self._parametric = False
        self.shared: dict[Any, Any] = {}  # what ``distributed`` prepared for groups of ranks

    # ---- what it is

    @property
    def num_products(self) -> int:
        """How many products one call takes."""
        return self._strategy.num_products

    @property
    def chunk(self) -> int:
        """How many products run at once."""
        return max((p.chunk for p in self._strategy.products), default=1)

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

    def _work(self, args: Args) -> Work:
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

    def _vouch(self, args: Args) -> None:
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
            choice=self._told_choice(),
            memory=self.options.budget,
            itemsize=self._function.dtype.itemsize,
            whole=self._whole_pattern.nnz,
            blocks=self._assembly.blocks,
            inputs=tuple(self._function.inputs),
            outputs=tuple(self._function.outputs),
        )

    def _find_pattern(self, args: Args) -> SparsityPattern:
        start = time.perf_counter()
        sparsity = self.options.sparsity
        if isinstance(sparsity, str):
            with Draws(self._function.device).again(), progress("detection", self.options.progress):
                pattern = self._detect(args)
        else:
            with Draws(self._function.device).again():
                self._function.look(args)
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

    def _detect(self, args: Args) -> SparsityPattern:
        if not (self._once and self.options.may_be_dense):
            return detect(self._function, args)
        run = self._engines["reverse"].ran
        if run is None:
            self._function.look(args)
        with torch.no_grad():
            return pattern_or_full(self._function, args, None if run is None else run.reverse.batch)

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

    @property
    def _entries(self) -> Places | None:
        """Which of all entries are stored; None for every one."""
        return None

    def _guarded(self, run: Callable[[], torch.Tensor]) -> torch.Tensor:
        """``run()``, which runs products of this plan's function."""
        return run()

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
