"""The plan: everything about a Jacobian that does not depend on the numbers in x, prepared once.

    function -> pattern (detection) -> colors (coloring) -> products -> values (decompression) -> matrices

A plan is composed: its ``Goal`` says what is wanted, its ``Kind`` what is particular to the derivative, ``prepare``
chooses the strategy, and an ``Evaluator`` runs and verifies it, and owns all that changes. This module has what users
call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from html import escape
from typing import Any

import torch

from .._base.errors import FileError, OptionError, SignatureError
from .._base.progress import progress
from .._base.random_state import RandomState
from .._base.words import Args, Mode, UserFunction
from .._coloring.colors import Coloring
from .._function.flat import Argnums, FlatFunction, ordinary
from .._operators.jacobian import JacobianOperator
from .._products.run import Run
from .._strategies.forecast import Work, table
from .evaluate import Evaluator
from .goal import Goal
from .kinds.jacobian import Jacobian, SomeEntries
from .kinds.kind import Kind
from .options import Options
from .prepare import Prepared, prepare, restored, told, wanted_mode
from .report.explain import Facts, explain
from .report.page import write_report
from .saving import Saved, write


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
        f: UserFunction,
        args: Args,
        argnums: Argnums,
        options: Options,
        saved: Saved | None = None,
        once: bool = False,
        run: Run | None = None,
    ) -> None:
        function = FlatFunction(f, args, argnums, options.has_aux) if run is None else run.function
        kind: Kind = Jacobian() if options.entries is None else SomeEntries(Jacobian())
        self._take_over(plan_for(kind, function, args, options, saved, once, run))

    def _take_over(self, prepared: Prepared) -> None:
        """Evaluate what was prepared."""
        goal, kind = prepared.goal, prepared.kind
        self.options, self.pattern = goal.options, goal.stored
        self._evaluator = Evaluator(prepared)
        start = time.perf_counter()
        self._result = kind.result(goal, prepared.strategy)
        if goal.options.blocksize is not None:
            prepared.seconds["blocks"] = time.perf_counter() - start
        self.shared: dict[Any, Any] = {}  # what ``distributed`` prepared for groups of ranks

    # ---- what it is

    @property
    def prepared(self) -> Prepared:
        """What runs now, and why: the goal, the kind of derivative, the choice and the strategy."""
        return self._evaluator.prepared

    @property
    def coloring(self) -> Coloring | None:
        """Which columns or rows share a product; None for a dense Jacobian."""
        return self.prepared.choice.coloring

    @property
    def mode(self) -> Mode:
        """What builds the Jacobian: products "forward", "reverse" or "bidirectional", or a program ("accumulate")."""
        return self.prepared.mode

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): ravelled outputs and inputs."""
        return self.pattern.shape

    @property
    def seconds(self) -> dict[str, float]:
        """What each stage of preparing took."""
        return self.prepared.seconds

    @property
    def num_products(self) -> int:
        """How many products one call takes."""
        return self.prepared.strategy.num_products

    @property
    def chunk(self) -> int:
        """How many products run at once."""
        return max((side.products.chunk for side in self.prepared.strategy.sides), default=1)

    def explain(self, *args: Any, ranks: int | Sequence[int] = ()) -> str:
        """What was found, what was chosen and why, as text.

        With ``ranks``, such as ``plan.explain(x, ranks=(2, 8, 64, 1024))``, also what a call of
        ``torchjac.distributed.jacobian`` would take on so many: time, bytes moved and memory, predicted from what a
        product costs at ``args``, measured now.
        """
        text = explain(self.facts())
        sizes = (ranks,) if isinstance(ranks, int) else tuple(ranks)
        if not sizes:
            return text
        if min(sizes) < 1:
            raise OptionError(f"ranks={ranks!r}", expected="numbers of processes, such as ranks=(2, 8, 64, 1024)")
        return "\n".join([text, *table(self.work(*args), sizes)])

    def work(self, *args: Any) -> Work:
        """What there is to share among ranks, measured at ``args``."""
        self._function.check(args)
        with torch.no_grad(), ordinary(args) as own, RandomState(self._function.device).again():
            return self._evaluator.work(own)

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
            return self._result.result(self.values(*args))
        (_, aux), result = self.value_and_jacobian(*args)
        return result, aux

    def values(self, *args: Any) -> torch.Tensor:
        """The values of the pattern's entries at ``args``: (nnz,), row-major, differentiable."""
        evaluator = self._evaluator
        if evaluator.prepared.goal.function.admits(args) and not self.options.progress:
            return evaluator.values(args)
        with ordinary(args) as own, progress("evaluation", self.options.progress, counted=True):
            return evaluator.values(own)

    def matrix(self, *args: Any) -> Any:
        """The (m, n) SparseMatrix at ``args``, pattern and values: products, ``.T``, ``.gram()``, differentiable.

        With a block layout: the BlockMatrix of each output and input, nested as the result of the plan is.
        """
        return self._result.matrix(self.values(*args))

    def operator(self, *args: Any) -> JacobianOperator:
        """The (m, n) Jacobian at ``args``, known by its products: ``@``, ``.T``, ``A[i, j]``; it knows the pattern."""
        self._function.check(args)
        with ordinary(args) as own:
            return JacobianOperator.of_plan(
                self._evaluator.reference,
                own,
                self.pattern,
                lambda: self.values(*own),
                self.num_products,
                lambda: self._evaluator.vouch(own),
            )

    def value_and_jacobian(self, *args: Any) -> tuple[Any, Any]:
        """(f(*args), J); one more evaluation of f. With has_aux, f(*args) is the pair (output, aux)."""
        draws = RandomState(self._function.device)
        result = self._result.result(self.values(*args))
        with draws.again():  # the value that the Jacobian belongs to
            return self._function.call(args), result

    def check(self, *args: Any) -> None:
        """Compare the Jacobian at ``args`` with an independent product; raise if they differ. About two products."""
        self._function.check(args)
        with ordinary(args) as own:
            self._evaluator.check(own)

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
            self.prepared.goal.whole,
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
        write_report(path, self.facts())

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

    # ---- for the parts of the library that work with plans

    def assembled(self, values: torch.Tensor) -> Any:
        """What a call returns, from the values of the pattern's entries."""
        return self._result.result(values)

    def facts(self) -> Facts:
        """What there is to say about the plan."""
        prepared = self.prepared
        return Facts(
            self.pattern,
            self.mode,
            self.num_products,
            self.chunk,
            self.seconds,
            detected=isinstance(self.options.sparsity, str),
            choice=told(prepared),
            memory=self.options.budget,
            itemsize=self._function.dtype.itemsize,
            whole=prepared.goal.whole.nnz,
            blocks=self._result.blocks,
            hessian=prepared.kind.hessian,
            inputs=tuple(self._function.inputs),
            outputs=tuple(self._function.outputs),
        )

    @property
    def _function(self) -> FlatFunction:
        return self._evaluator.function


def plan_for(
    kind: Kind,
    function: FlatFunction,
    args: Args,
    options: Options,
    saved: Saved | None = None,
    once: bool = False,
    run: Run | None = None,
) -> Prepared:
    """What a new plan runs, or one from a file."""
    if saved is not None:
        goal = Goal(function, kind.part(saved.pattern, options), options, once, run)
        function.expect(saved.output)
        return restored(goal, kind, saved)
    with ordinary(args) as own:
        start = time.perf_counter()
        goal = kind.goal(function, own, options, once, run)
        detection = time.perf_counter() - start
        prepared = prepare(goal, kind, wanted_mode(goal), own)
    prepared.seconds["detection"] = detection
    return prepared


def _refuse_keywords(keywords: dict[str, Any]) -> None:
    if keywords:
        name = next(iter(keywords))
        raise SignatureError(
            f"the plan was called with the keyword argument {name}=",
            expected="the arguments of f by position, as plan_jacobian(f, *args) got them",
            instead=f"plan_jacobian(functools.partial(f, {name}=...), *args), with the keywords fixed beforehand",
        )
