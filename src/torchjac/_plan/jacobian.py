"""The public plan class of Jacobians: a plan is prepared once, and evaluated at many inputs.

    function -> pattern (detection) -> colors (coloring) -> products -> values (decompression) -> matrices

A plan is composed: its ``Goal`` says which entries are wanted, its ``Kind`` holds what is particular to the derivative,
``prepare`` chooses the strategy, and an ``Evaluator`` runs and verifies it, and owns all state that changes. This
module has the methods that users call.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import PyTree

from .._base.errors import FileError, OptionError, SignatureError
from .._base.progress import progress
from .._base.random_state import RandomState
from .._base.words import Args, Mode, UserFunction
from .._coloring.colors import Coloring
from .._function.flat import Argnums, FlatFunction, ordinary
from .._matrices.drawing import thumbnail
from .._matrices.pattern import SparsityPattern
from .._operators.jacobian import JacobianOperator
from .._products.run import Run
from .._strategies.forecast import Work, table
from .evaluate import Evaluator
from .goal import Goal
from .kinds.jacobian import Jacobian, SomeEntries
from .kinds.kind import Kind, Result
from .options import Options
from .prepare import Prepared, prepare, restored, told, wanted_mode
from .report.explain import Facts, explain
from .report.page import write_report
from .saving import Saved, write

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class JacobianPlan:
    """A prepared Jacobian: ``plan(*args)`` evaluates it at any ``args`` like those that the plan was made with.

    >>> import torch, torchjac as tj
    >>> plan = tj.plan_jacobian(lambda x: x[1:] * x[:-1], torch.rand(5), layout=torch.sparse_csr)
    >>> plan.num_products, plan.pattern.nnz
    (2, 8)
    >>> plan(torch.arange(5.0)).values()
    tensor([1., 0., 2., 1., 3., 2., 4., 3.])

    Attributes
    ----------
    pattern: the (m, n) SparsityPattern.
    coloring: the columns or rows that share a product; None for a dense Jacobian.
    mode: "forward", "reverse", "bidirectional" or "accumulate".
    num_products: the number of JVPs and VJPs in one call.
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
        """Become the plan that evaluates ``prepared``."""
        goal, kind = prepared.goal, prepared.kind
        self.options = goal.options
        self._evaluator = Evaluator(prepared)
        start = time.perf_counter()
        self._result, self._result_of = kind.result(goal, prepared.strategy), 0
        if goal.options.blocksize is not None:
            prepared.seconds["blocks"] = time.perf_counter() - start
        self.shared: dict[Hashable, Any] = {}  # what ``distributed`` prepared, a layer above, by group of ranks

    # ---- properties

    @property
    def prepared(self) -> Prepared:
        """The prepared parts that run now: the goal, the kind of derivative, the choice and the strategy."""
        return self._evaluator.prepared

    @property
    def pattern(self) -> SparsityPattern:
        """The (m, n) pattern of the entries that have values."""
        return self.prepared.goal.stored

    @property
    def coloring(self) -> Coloring | None:
        """The coloring: the columns or rows that share a product; None for a dense Jacobian."""
        return self.prepared.choice.coloring

    @property
    def mode(self) -> Mode:
        """The way to the values: products "forward", "reverse" or "bidirectional", or a program ("accumulate")."""
        return self.prepared.mode

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (m, n): the numbers of ravelled outputs and ravelled inputs."""
        return self.pattern.shape

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds that each stage of the preparation took, by its name."""
        return self.prepared.seconds

    @property
    def num_products(self) -> int:
        """The number of products in one call."""
        return self.prepared.strategy.num_products

    @property
    def chunk(self) -> int:
        """The number of products that run at once."""
        return max((side.products.chunk for side in self.prepared.strategy.sides), default=1)

    def explain(self, *args: PyTree, ranks: int | Sequence[int] = ()) -> str:
        """Return a text about the plan: the pattern that was found, the strategy that was chosen, and the reasons.

        With ``ranks``, such as ``plan.explain(x, ranks=(2, 8, 64, 1024))``, it also forecasts a call of
        ``torchjac.distributed.jacobian`` on so many processes: its time, the bytes moved, and the memory, predicted
        from the cost of a product at ``args``, which is measured now.
        """
        text = explain(self.facts())
        sizes = (ranks,) if isinstance(ranks, int) else tuple(ranks)
        if not sizes:
            return text
        if min(sizes) < 1:
            raise OptionError(f"ranks={ranks!r}", expected="numbers of processes, such as ranks=(2, 8, 64, 1024)")
        return "\n".join([text, *table(self.work(*args), sizes)])

    def work(self, *args: PyTree) -> Work:
        """Measure, at ``args``, the work of one call that ranks can share."""
        self._function.check(args)
        with torch.no_grad(), ordinary(args) as own, RandomState(self._function.device).again():
            return self._evaluator.work(own)

    def __repr__(self) -> str:
        m, n = self.shape
        return (
            f"{type(self).__name__}({m} x {n}, {self.pattern.nnz:,} entries, {self.num_products} products, {self.mode})"
        )

    # ---- evaluation

    def __call__(self, *args: PyTree, **keywords: object) -> PyTree:
        """Return the Jacobian at ``args``, in the chosen layout and nesting; the pair (J, aux) with has_aux."""
        _refuse_keywords(keywords)
        if not self.options.has_aux:
            return self.assembled(self.values(*args))
        (_, aux), result = self.value_and_jacobian(*args)
        return result, aux

    def values(self, *args: PyTree) -> torch.Tensor:
        """Return the values of the pattern's entries at ``args``: a tensor (nnz,), row by row, differentiable."""
        evaluator = self._evaluator
        if evaluator.prepared.goal.function.admits(args) and not self.options.progress:
            return evaluator.values(args)
        with ordinary(args) as own, progress("evaluation", self.options.progress, counted=True):
            return evaluator.values(own)

    def matrix(self, *args: PyTree) -> PyTree:
        """Return the Jacobian at ``args`` as an (m, n) SparseMatrix: its pattern and values.

        It has products, ``.T`` and ``.gram()``, and is differentiable. With a block layout there is a BlockMatrix for
        each output and input instead, nested as the result of the plan is.
        """
        values = self.values(*args)
        return self._current_result().matrix(values)

    def operator(self, *args: PyTree) -> JacobianOperator:
        """Return the (m, n) Jacobian at ``args`` as an operator, which computes products and knows the pattern.

        It has ``@``, ``.T`` and ``A[i, j]``.
        """
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

    def value_and_jacobian(self, *args: PyTree) -> tuple[PyTree, PyTree]:
        """Return the pair (f(*args), J), by one more evaluation of f; with has_aux, f(*args) is (output, aux)."""
        draws = RandomState(self._function.device)
        result = self.assembled(self.values(*args))
        with draws.again():  # the value of the same random numbers
            return self._function.call(args), result

    def check(self, *args: PyTree) -> None:
        """Compare the Jacobian at ``args`` with an independent product; raise if they differ.

        It takes about two products.
        """
        self._function.check(args)
        with ordinary(args) as own:
            self._evaluator.check(own)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan, without its function, to a file (.npz, no pickle) for ``torchjac.load_plan(path, f)``."""
        if self.options.entries is not None:
            raise FileError(
                "a plan of some of the entries",
                expected="a plan of all",
                why="a file holds the entries of a plan, and not the pattern around them",
                instead="plan_jacobian(f, *args, entries=...) again, with sparsity= to skip detection",
            )
        write(path, self._saved())

    def _saved(self) -> Saved:
        args, output = self._function.examples()
        whole = self.prepared.goal.whole
        return Saved(args, output, self._function.argnums, self.options, whole, self.coloring, self.mode, self.seconds)

    def __reduce__(self) -> tuple[Callable[..., JacobianPlan], tuple[object, ...]]:
        """Return what pickle keeps: f itself, which pickle must know by name, and what ``save`` writes."""
        return _made_again, (type(self), self._function.source, self._saved())

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML page about the plan: a pattern to zoom into, the colors, the strategies, and source lines.

        >>> import torch, torchjac as tj
        >>> tj.plan_jacobian(lambda x: x[1:] * x[:-1], torch.rand(50)).report("report.html")

        The page needs no network. f runs once more, to find the lines that cost most entries.
        """
        write_report(path, self.facts())

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the pattern with matplotlib, in the colors of the products, with lines between inputs and outputs.

        >>> import torch, torchjac as tj
        >>> ax = tj.plan_jacobian(lambda x: x[1:] * x[:-1], torch.rand(50)).plot()

        It returns the axes: ``ax``, or those of a new figure.
        """
        blocks = {
            "row_blocks": [leaf.start for leaf in self._function.outputs[1:]],
            "column_blocks": [leaf.start for leaf in self._function.inputs[1:]],
        }
        coloring = self.coloring
        return self.pattern.plot(ax, **blocks) if coloring is None else coloring.plot(self.pattern, ax, **blocks)

    def _repr_html_(self) -> str:
        text = escape(self.explain())
        return f'<div style="display:flex;gap:1em;align-items:start">{thumbnail(self.pattern)}<pre>{text}</pre></div>'

    # ---- for other modules of the library

    def assembled(self, values: torch.Tensor) -> PyTree:
        """Return the result of a call whose entries have these ``values``, (nnz,)."""
        return self._current_result().result(values)

    def _current_result(self) -> Result:
        """The maker of results for the pattern as it is now: an evaluation may have found another."""
        if self._result_of != self._evaluator.patterns_found:
            prepared, self._result_of = self.prepared, self._evaluator.patterns_found
            self._result = prepared.kind.result(prepared.goal, prepared.strategy)
        return self._result

    def facts(self) -> Facts:
        """Return the facts about the plan that its text and its page tell."""
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
            blocks=self._current_result().blocks,
            hessian=prepared.kind.hessian,
            inputs=tuple(self._function.inputs),
            outputs=tuple(self._function.outputs),
        )

    @property
    def _function(self) -> FlatFunction:
        return self._evaluator.function


def _made_again(kind: type[JacobianPlan], f: UserFunction, saved: Saved) -> JacobianPlan:
    """The plan that was pickled: nothing is detected or colored again."""
    return kind(f, saved.args, saved.argnums, saved.options, saved)


def plan_for(
    kind: Kind,
    function: FlatFunction,
    args: Args,
    options: Options,
    saved: Saved | None = None,
    once: bool = False,
    run: Run | None = None,
) -> Prepared:
    """Prepare a new plan, or restore the one that was read from a file."""
    if saved is not None:
        goal = Goal(function, kind.stored_entries(saved.pattern, options), options, once, run)
        function.expect(saved.output)
        return restored(goal, kind, saved)
    with ordinary(args) as own:
        start = time.perf_counter()
        goal = kind.goal(function, own, options, once, run)
        detection = time.perf_counter() - start
        prepared = prepare(goal, kind, wanted_mode(goal), own, detection)
    prepared.seconds["detection"] = detection
    return prepared


def _refuse_keywords(keywords: dict[str, object]) -> None:
    if keywords:
        name = next(iter(keywords))
        raise SignatureError(
            f"the plan was called with the keyword argument {name}=",
            expected="the arguments of f by position, as plan_jacobian(f, *args) got them",
            instead=f"plan_jacobian(functools.partial(f, {name}=...), *args), with the keywords fixed beforehand",
        )
