"""A plan whose products are shared by the ranks of a group: prepared on the first call, then run by every rank."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cached_property
from typing import Any
from zlib import crc32

import torch
from torch.utils._pytree import tree_leaves

from .._base.errors import InputError, OptionError
from .._base.random_state import Draws, random_numbers
from .._base.ranks import Note, Ranks
from .._base.words import Args
from .._coloring.recovery.direct import gather_index
from .._function.flat import ordinary
from .._matrices.layouts import Block
from .._matrices.pattern import SparsityPattern
from .._plan.hessian import HessianPlan
from .._plan.jacobian import JacobianPlan
from .._products.cost import UnitCost
from .._products.reverse import Reverse
from .._products.rounding import close
from .._strategies.accumulated import Accumulated
from .._strategies.budget import fit_chunks
from .._strategies.compiling.compiled import Compiled
from .._strategies.ranges import cut
from .._strategies.shard import Shard, measured, parts_of
from .joining import DenseColumns, DenseRows, Direct, Joining, Layout, Repeated, Solved

_SMALL = 32  # so few products for each rank are shared evenly, without a measurement


class Sharded:
    """The part of ``plan`` that this rank runs, and how it comes together with those of the others."""

    def __init__(self, plan: JacobianPlan, ranks: Ranks, args: Args, lockstep: bool) -> None:
        self.plan, self.ranks, self.lockstep = plan, ranks, lockstep
        self._function = plan._function
        self.strategy = plan._strategy  # a plan may change its own; then it is shared anew
        self._repeated = isinstance(plan._strategy, Accumulated)
        self._parts = [] if self._repeated else parts_of(self._function, plan.coloring, plan._choice.direction)
        counts = [count for _, _, count in self._parts]
        if lockstep and plan.options.memory is not None:
            raise OptionError(
                "memory= of a plan, with lockstep=True",
                expected="memory=None",
                why="the measurement runs f another number of times on each rank, and f waits for the other ranks",
            )
        with torch.no_grad():
            costs, notes = ranks.together(lambda: self._costs(args), lambda costs: self._describe(costs))
        ranks.same(notes, "plan", "plan", "torchjac.distributed.plan_jacobian(f, *args), which prepares one for all")
        every = [[UnitCost(*cost) for cost in note["costs"]] for note in notes]
        costs = [
            UnitCost(statistics.median(c.fixed for c in side), statistics.median(c.each for c in side))
            for side in zip(*every, strict=True)
        ]
        times = [sum(c.of(k) for c, k in zip(mine, counts, strict=True)) for mine in every]
        usual = statistics.median(times)
        self.bounds = cut(counts, costs, [usual / t if t else 1.0 for t in times]) if counts else [0] * (ranks.size + 1)
        self.layout = Layout(plan.pattern, self.bounds, ranks)
        dense = plan.coloring is None and plan._entries is None
        self.shard = (
            None if self._repeated else Shard(self._function, self._parts, self.bounds, ranks.rank, dense, lockstep)
        )
        self.joining = self._join(dense)
        self._fit(args)
        self._checked: Any = None
        self._program: Callable[[Args], torch.Tensor] | None = None

    @cached_property
    def block(self) -> Block:
        """The rows of this rank; distinct sets of columns stay shared."""
        (start, stop), n = self.layout.rows[self.ranks.rank : self.ranks.rank + 2], self.plan.shape[1]
        row_sets, indptr, indices = self.plan.pattern.index_sets
        pattern = SparsityPattern((stop - start, n), row_sets[start:stop], indptr, indices)
        return Block(pattern, (0, stop - start), (0, n), self._function.device)

    # ---- once

    def _costs(self, args: Args) -> list[UnitCost]:
        self._function.check(args)
        enough = sum(count for _, _, count in self._parts) > _SMALL * self.ranks.size or len(self._parts) > 1
        if not enough or self.lockstep:
            return [UnitCost(0.0, 1.0) for _ in self._parts]
        costs: list[UnitCost] = []

        def measure() -> torch.Tensor:
            costs[:] = measured(self._function, self._parts, args)
            return torch.empty(0)

        with Draws(self._function.device).again():
            self.plan._guarded(measure)
        return costs

    def _describe(self, costs: list[UnitCost]) -> Note:
        plan, coloring = self.plan, self.plan.coloring
        digest = crc32(repr((type(plan).__name__, plan.shape, plan.mode, plan.num_products, self.lockstep)).encode())
        for array in plan.pattern.index_sets:
            digest = crc32(array.astype("<i8").tobytes(), digest)
        for name in ("colors", "column_colors", "row_colors"):
            if coloring is not None and hasattr(coloring, name):
                digest = crc32(getattr(coloring, name).tobytes(), digest)
        return {"plan": digest, "costs": [[cost.fixed, cost.each] for cost in costs]}

    def _join(self, dense: bool) -> Joining:
        plan, layout, coloring = self.plan, self.layout, self.plan.coloring
        if self._repeated:
            return Repeated(layout)
        if dense:
            return DenseRows(layout) if plan.mode == "reverse" or self._symmetric else DenseColumns(layout)
        sizes = [(count, self._function.m if way == "forward" else self._function.n) for way, _, count in self._parts]
        if coloring is not None and coloring.by_substitution:
            return Solved(layout, sizes, plan._strategy._recover)  # type: ignore[attr-defined]  # a colored strategy
        entries = plan._entries
        if coloring is None:
            assert entries is not None, "a triangle of a dense Hessian"
            return Direct(layout, entries, sizes, self._function.device)
        places = gather_index(plan._whole_pattern, coloring)
        return Direct(layout, places if entries is None else places[entries], sizes, self._function.device)

    @property
    def _symmetric(self) -> bool:
        return isinstance(self.plan, HessianPlan)

    def _fit(self, args: Args) -> None:
        """How many products run at once, within this rank's own budget."""
        shard = self.shard
        if shard is None:
            return
        if self.lockstep:
            chunk = min((p.chunk for p in shard.products), default=1)
            _, notes = self.ranks.together(lambda: None, lambda _: {"chunk": chunk})
            for p in shard.products:
                p.chunk = min(note["chunk"] for note in notes)
            return

        def fit() -> torch.Tensor:
            fit_chunks(shard, self._function, args, self.plan.options.budget)
            return torch.empty(0)

        with torch.no_grad(), Draws(self._function.device).again():
            self.ranks.together(lambda: self.plan._guarded(fit))

    # ---- every call

    def local(self, args: Args) -> torch.Tensor:
        """What this rank computes, once all have, of the same numbers."""
        self._function.check(args)
        with torch.no_grad(), ordinary(args) as own:
            first = self._checked is None or not self._checked.same(self._function.choices(own))
            if first:
                self._program = None
            draws = Draws(self._function.device)
            states = crc32(b"".join(s.cpu().numpy().tobytes() for s in draws.states))

            def note(_: torch.Tensor) -> Note:
                after = Draws(self._function.device)
                drew = any(not torch.equal(a, b) for a, b in zip(draws.states, after.states, strict=True))
                return {"args": _digest(own), "states": states, "drew": drew, "first": first}

            local, notes = self.ranks.together(lambda: self._compute(own), note)
            self.ranks.same(notes, "args", "arguments", "torch.manual_seed(0), or torch.distributed.broadcast of them")
            if any(note["drew"] for note in notes):
                self.ranks.same(notes, "states", "random numbers", "torch.manual_seed(0) on every rank before the call")
            anew = any(note["first"] for note in notes) or self.plan.options.check == "always"
            if anew and self.shard is not None:  # without products the plan itself checks
                local = self._checked_local(own, local, draws)
        return local

    def _compute(self, args: Args) -> torch.Tensor:
        if self.shard is None:
            return self.plan.values(*args)
        return self._eager(args) if self._program is None else self._program(args)

    def _eager(self, args: Args) -> torch.Tensor:
        shard = self.shard
        assert shard is not None, "a program has no products"
        return self.plan._guarded(lambda: self.joining.local(shard.run(args)))

    def _checked_local(self, args: Args, local: torch.Tensor, draws: Draws) -> torch.Tensor:
        """``local``, when the parts of all ranks agree with a product of plain autograd; then the compiled program."""
        while self.plan.options.check and not self._agree(args, local, draws):
            assert self.shard is not None, "checked by the plan otherwise"
            _rejected, notes = self.ranks.together(self.shard.reject, lambda done: {"again": done})
            if not any(note["again"] for note in notes):
                self._explain(args, local, draws)
                break
            draws.replay()
            self._program = None
            local, _ = self.ranks.together(lambda: self._eager(args))
        self._checked = self._function.choices(args)
        if self.plan.options.compile and self._program is None:
            self._compile(args, local)
        return local

    def _agree(self, args: Args, local: torch.Tensor, draws: Draws) -> bool:
        """Whether J^T u, summed over the parts of all ranks, is what one product of plain autograd gives everywhere."""
        function = self._function
        u = random_numbers(function.m, local)
        dense = isinstance(self.joining, (DenseRows, DenseColumns))
        own = None if dense else self.joining.own(local)

        def both() -> tuple[torch.Tensor, torch.Tensor]:
            with draws.again():
                expected = Reverse(function, args, plain=True).one(u)
            return expected, torch.stack(self._by_column(local, own, u))

        (expected, sums), _ = self.ranks.together(both)
        got, scale = self.ranks.sum(sums)
        wrong = (~close(got, expected, scale + expected.abs())).any().to(got.dtype)
        return not bool(self.ranks.sum(wrong.reshape(1)))

    def _by_column(
        self, local: torch.Tensor, own: tuple[torch.Tensor, torch.Tensor] | None, u: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """J^T u and the size of its terms, of this rank's entries alone."""
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
        if self._symmetric and self.plan._entries is not None:  # the other triangle
            off = rows != columns
            pairs.append((columns[off], rows[off], values[off]))
        for i, j, v in pairs:
            terms = v * u[i]
            total.index_add_(0, j, terms)
            size.index_add_(0, j, terms.abs())
        return total, size

    def _explain(self, args: Args, local: torch.Tensor, draws: Draws) -> None:
        """All values on every rank, for the probe of the plan, which knows rounding and names an entry."""
        values = self.joining.all(local)
        self.ranks.together(lambda: self.plan._verify(args, values, draws))

    def _compile(self, args: Args, local: torch.Tensor) -> None:
        """From the next call on; each rank its own program. A rank without products has nothing to compile."""
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
    """Raise where a gradient through the result seems to be wanted."""
    if torch.is_grad_enabled() and any(isinstance(t, torch.Tensor) and t.requires_grad for t in tree_leaves(args)):
        raise InputError(
            "an argument requires grad, and results of several processes carry no graph",
            expected="arguments without gradients, or torch.no_grad()",
            why="a gradient that silently stops at the edge of a process would be wrong",
            instead="with torch.no_grad(): ..., or plan(*args) on one process",
        )


def _digest(args: Args) -> int:
    """Of every bit of the arguments and its place: as good as certain to differ where they do."""
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
    """One number of all bits, on the device of ``t``; products are modulo 2^64."""
    if t.layout is not torch.strided:
        return 0
    t = torch.view_as_real(t.resolve_conj()) if t.is_complex() else t
    bits = t.detach().contiguous().reshape(-1).view(_BITS[t.element_size()]).to(torch.int64) * _ODD
    bits = (bits ^ (bits >> 29)) * _OTHER
    return int((bits * (2 * torch.arange(bits.numel(), device=t.device) + 1)).sum())
