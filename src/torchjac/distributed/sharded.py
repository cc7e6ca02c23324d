"""A plan whose products are shared by the ranks of a group: prepared on the first call, then run on every rank."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar
from zlib import crc32

import torch
from torch.utils._pytree import tree_leaves

from .._base.errors import InputError, OptionError
from .._base.random_state import RandomState, random_numbers
from .._base.ranks import Ranks, Status
from .._base.words import Args
from .._coloring.recovery.direct import gather_index
from .._function.flat import FlatFunction, ordinary
from .._function.signature import Choices
from .._matrices.layouts import Submatrix
from .._matrices.pattern import SparsityPattern
from .._plan.jacobian import JacobianPlan
from .._plan.retrying import retried
from .._products.cost import UnitCost
from .._products.reverse import Reverse
from .._products.rounding import close
from .._strategies.accumulated import Accumulated
from .._strategies.budget import fit_chunks
from .._strategies.colored import Colored
from .._strategies.compiling.compiled import Compiled
from .._strategies.ranges import cut
from .._strategies.shard import Shard, measured, parts_of
from .._strategies.symmetric import Symmetric
from .._tangent.delicate import BATCH
from .joining import DenseColumns, DenseRows, Direct, Joining, Layout, Repeated, Solved

T = TypeVar("T")

_SMALL = 32  # so few products for each rank are shared evenly, without a measurement


class Sharded:
    """The products of ``plan`` that this rank runs, and their joining with those of the other ranks."""

    def __init__(self, plan: JacobianPlan, ranks: Ranks, args: Args, lockstep: bool) -> None:
        self.plan, self.ranks, self.lockstep = plan, ranks, lockstep
        prepared = plan.prepared
        self._goal, self._kind, self.strategy = prepared.goal, prepared.kind, prepared.strategy
        self._function = prepared.goal.function  # a plan may change how it computes f; then it is shared anew
        self._repeated = isinstance(self.strategy, Accumulated)
        self._parts = [] if self._repeated else parts_of(self._function, plan.coloring, prepared.choice.direction)
        counts = [count for _, _, count in self._parts]
        if lockstep and plan.options.memory is not None:
            raise OptionError(
                "memory= of a plan, with lockstep=True",
                expected="memory=None",
                why="the measurement runs f another number of times on each rank, and f waits for the other ranks",
            )
        with torch.no_grad():
            costs, statuses = ranks.together(lambda: self._costs(args), lambda costs: self._describe(costs))
        ranks.same(statuses, "plan", "plan", "torchjac.distributed.plan_jacobian(f, *args), which prepares one for all")
        every = [[UnitCost(*cost) for cost in status["costs"]] for status in statuses]
        costs = [
            UnitCost(statistics.median(c.fixed for c in side), statistics.median(c.each for c in side))
            for side in zip(*every, strict=True)
        ]
        times = [sum(c.of(k) for c, k in zip(mine, counts, strict=True)) for mine in every]
        usual = statistics.median(times)
        self.bounds = cut(counts, costs, [usual / t if t else 1.0 for t in times]) if counts else [0] * (ranks.size + 1)
        self.layout = Layout(plan.pattern, self.bounds, ranks)
        self._dense = plan.coloring is None and self._goal.stored_entries.places is None
        self.shard = None if self._repeated else self._shard_of(self._function)
        self.joining = self._join()
        self._fit(args)
        self._checked: Choices | None = None  # of the arguments that were checked last
        self._program: Callable[[Args], torch.Tensor] | None = None

    @cached_property
    def block(self) -> Submatrix:
        """The submatrix of this rank's rows; equal sets of columns stay shared."""
        (start, stop), n = self.layout.rows[self.ranks.rank : self.ranks.rank + 2], self.plan.shape[1]
        row_sets, indptr, indices = self.plan.pattern.index_sets
        pattern = SparsityPattern((stop - start, n), row_sets[start:stop], indptr, indices)
        return Submatrix(pattern, (0, stop - start), (0, n), self._function.device)

    # ---- once

    def _shard_of(self, function: FlatFunction) -> Shard:
        shard = Shard(function, self._parts, self.bounds, self.ranks.rank, self._dense, self.lockstep)
        if self._goal.delicate & BATCH:
            for side in shard.sides:
                side.products.never_batched()
        return shard

    def _with_shard(self, run: Callable[[Shard], T]) -> T:
        """The result of ``run(shard)``; where PyTorch refuses it, the shard computes f in another way from now on."""
        shard = self.shard
        assert shard is not None, "a program has no products"
        used = [shard]

        def on(function: FlatFunction) -> T:
            used[0] = shard if function is shard.function else self._shard_of(function)
            for new, old in zip(used[0].sides, shard.sides, strict=True):
                new.products.chunk = old.products.chunk
            return run(used[0])

        _, found = retried(shard.function, self._kind.instead, on)
        self.shard = used[0]
        return found

    def _costs(self, args: Args) -> list[UnitCost]:
        self._function.check(args)
        enough = sum(count for _, _, count in self._parts) > _SMALL * self.ranks.size or len(self._parts) > 1
        if not enough or self.lockstep:
            return [UnitCost(0.0, 1.0) for _ in self._parts]
        with RandomState(self._function.device).again():
            return retried(self._function, self._kind.instead, lambda f: measured(f, self._parts, args))[1]

    def _describe(self, costs: list[UnitCost]) -> Status:
        plan, coloring = self.plan, self.plan.coloring
        digest = crc32(repr((type(plan).__name__, plan.shape, plan.mode, plan.num_products, self.lockstep)).encode())
        for array in plan.pattern.index_sets:
            digest = crc32(array.astype("<i8").tobytes(), digest)
        for name in ("colors", "column_colors", "row_colors"):
            if coloring is not None and hasattr(coloring, name):
                digest = crc32(getattr(coloring, name).tobytes(), digest)
        return {"plan": digest, "costs": [[cost.fixed, cost.each] for cost in costs]}

    def _join(self) -> Joining:
        plan, layout, coloring = self.plan, self.layout, self.plan.coloring
        if self._repeated:
            return Repeated(layout)
        if self._dense:
            return DenseRows(layout) if plan.mode == "reverse" or self._symmetric else DenseColumns(layout)
        sizes = [(count, self._function.m if way == "forward" else self._function.n) for way, _, count in self._parts]
        if coloring is not None and coloring.by_substitution:
            assert isinstance(self.strategy, (Colored, Symmetric)), "what has colors"
            return Solved(layout, sizes, self.strategy.recover)
        stored = self._goal.stored_entries.places
        if coloring is None:
            assert stored is not None, "a triangle of a dense Hessian"
            return Direct(layout, stored, sizes, self._function.device)
        places = gather_index(self._goal.whole, coloring)
        return Direct(layout, places if stored is None else places[stored], sizes, self._function.device)

    @property
    def _symmetric(self) -> bool:
        return self._kind.hessian and self.plan.options.entries is None

    def _fit(self, args: Args) -> None:
        """Set how many products run at once, within this rank's own memory budget."""
        shard = self.shard
        if shard is None:
            return
        if self.lockstep:
            chunk = min((side.products.chunk for side in shard.sides), default=1)
            _, statuses = self.ranks.together(lambda: None, lambda _: {"chunk": chunk})
            for side in shard.sides:
                side.products.chunk = min(status["chunk"] for status in statuses)
            return

        def fit(shard: Shard) -> None:
            fit_chunks(shard, shard.function, args, self.plan.options.budget)

        with torch.no_grad(), RandomState(self._function.device).again():
            self.ranks.together(lambda: self._with_shard(fit))

    # ---- every call

    def local(self, args: Args) -> torch.Tensor:
        """The part of this rank, returned once every rank has computed its own part from equal arguments."""
        self._function.check(args)
        with torch.no_grad(), ordinary(args) as own:
            first = self._checked is None or not self._checked.same(self._function.choices(own))
            if first:
                self._program = None
            draws = RandomState(self._function.device)
            states = crc32(b"".join(s.cpu().numpy().tobytes() for s in draws.states))

            def status(_: torch.Tensor) -> Status:
                drew = draws.moved()
                return {"args": _digest(own), "states": states, "drew": drew, "first": first}

            local, statuses = self.ranks.together(lambda: self._compute(own), status)
            self.ranks.same(
                statuses, "args", "arguments", "torch.manual_seed(0), or torch.distributed.broadcast of them"
            )
            if any(status["drew"] for status in statuses):
                self.ranks.same(
                    statuses, "states", "random numbers", "torch.manual_seed(0) on every rank before the call"
                )
            anew = any(status["first"] for status in statuses) or self.plan.options.check == "always"
            if anew and self.shard is not None:  # without products the plan itself checks
                local = self._checked_local(own, local, draws)
        return local

    def _compute(self, args: Args) -> torch.Tensor:
        if self.shard is None:
            return self.plan.values(*args)
        return self._eager(args) if self._program is None else self._program(args)

    def _eager(self, args: Args) -> torch.Tensor:
        return self._with_shard(lambda shard: self.joining.local(shard.run(args)))

    def _checked_local(self, args: Args, local: torch.Tensor, draws: RandomState) -> torch.Tensor:
        """The part of this rank, checked with all others against plain autograd; then the program is compiled."""
        while self.plan.options.check and not self._agree(args, local, draws):
            assert self.shard is not None, "checked by the plan otherwise"
            _rejected, statuses = self.ranks.together(self.shard.reject, lambda done: {"again": done})
            if not any(status["again"] for status in statuses):
                self._explain(args, local, draws)
                break
            draws.replay()
            self._program = None
            local, _ = self.ranks.together(lambda: self._eager(args))
        self._checked = self._function.choices(args)
        if self.plan.options.compile and self._program is None:
            self._compile(args, local)
        return local

    def _agree(self, args: Args, local: torch.Tensor, draws: RandomState) -> bool:
        """Whether J^T u, summed over the parts of all ranks, equals one product of plain autograd on every rank."""
        function = self._function
        u = random_numbers(function.m, local)
        dense = isinstance(self.joining, (DenseRows, DenseColumns))
        own = None if dense else self.joining.own(local)

        def both() -> tuple[torch.Tensor, torch.Tensor]:
            with draws.again():
                expected = Reverse(self._kind.reference(self._goal), args, plain=True).one(u)
            return expected, torch.stack(self._by_column(local, own, u))

        (expected, sums), _ = self.ranks.together(both)
        got, scale = self.ranks.sum(sums)
        wrong = (~close(got, expected, scale + expected.abs())).any().to(got.dtype)
        return not bool(self.ranks.sum(wrong.reshape(1)))

    def _by_column(
        self, local: torch.Tensor, own: tuple[torch.Tensor, torch.Tensor] | None, u: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return J^T u and |J|^T |u|, of this rank's entries alone."""
        joining, n = self.joining, self.plan.shape[1]
        if isinstance(joining, DenseRows):
            part = u[self.layout.mine]
            return part @ local, part.abs() @ local.abs()
        total, size = u.new_zeros((2, n))
        if isinstance(joining, DenseColumns):
            total[self.layout.mine], size[self.layout.mine] = u @ local, u.abs() @ local.abs()
            return total, size
        assert own is not None, "entries of a pattern"
        entries, values = own
        pattern, here = self.plan.pattern, entries.cpu().numpy()
        rows, columns = (torch.from_numpy(a[here]).to(u.device).long() for a in (pattern.rows, pattern.indices))
        pairs = [(rows, columns, values)]
        if self._symmetric and self._goal.stored_entries.places is not None:  # the other triangle
            off = rows != columns
            pairs.append((columns[off], rows[off], values[off]))
        for i, j, v in pairs:
            terms = v * u[i]
            total.index_add_(0, j, terms)
            size.index_add_(0, j, terms.abs())
        return total, size

    def _explain(self, args: Args, local: torch.Tensor, draws: RandomState) -> None:
        """Gather all values on every rank and let the plan verify them: it knows rounding and names a wrong entry."""
        values = self.joining.all(local)
        now = self.plan.prepared
        self.ranks.together(lambda: now.kind.verify(now.goal, now.choice, now.strategy, args, values, draws))

    def _compile(self, args: Args, local: torch.Tensor) -> None:
        """Compile this rank's program for the next call. A rank without products has nothing to compile."""
        shard = self.shard
        options = self.plan.options.compile if isinstance(self.plan.options.compile, dict) else {}

        def compiled() -> None:
            assert shard is not None, "a program of products"
            self._program = self._eager
            if shard.num_products:
                constants = [c for side in shard.sides for c in side.constants]
                program = Compiled(self._eager, args, constants, options)
                program.compare(args, local)
                program.say()
                self._program = program

        self.ranks.together(compiled)


def refuse_graph(args: Args) -> None:
    """Raise InputError where an argument requires grad: the result would carry no graph."""
    if torch.is_grad_enabled() and any(isinstance(t, torch.Tensor) and t.requires_grad for t in tree_leaves(args)):
        raise InputError(
            "an argument requires grad, and results of several processes carry no graph",
            expected="arguments without gradients, or torch.no_grad()",
            why="a gradient that silently stops at the edge of a process would be wrong",
            instead="with torch.no_grad(): ..., or plan(*args) on one process",
        )


def _digest(args: Args) -> int:
    """A checksum of every bit of the arguments and its place: other arguments almost certainly have another one."""
    digest = 0
    for leaf in tree_leaves(args):
        if isinstance(leaf, torch.Tensor):
            digest = crc32(repr((leaf.numel(), _mixed(leaf))).encode(), digest)
        elif isinstance(leaf, (int, float, complex, str, bool, type(None))):
            digest = crc32(repr(leaf).encode(), digest)
    return digest


_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_ODD, _OTHER = 0x5851F42D4C957F2D, 0x14057B7EF767814F


def _mixed(t: torch.Tensor) -> int:
    """A 64-bit checksum of all bits of a tensor, computed on its device; products are modulo 2^64."""
    if t.layout is not torch.strided:
        return 0
    t = torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
    bits = t.detach().contiguous().reshape(-1).view(_BITS[t.element_size()]).to(torch.int64) * _ODD
    bits = (bits ^ (bits >> 29)) * _OTHER
    return int((bits * (2 * torch.arange(bits.numel(), device=t.device) + 1)).sum())
