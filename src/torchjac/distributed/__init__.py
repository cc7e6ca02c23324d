"""Jacobians by several processes: the products of one plan shared by the ranks of a torch.distributed group.

    products of a plan -> ranges of them, cut by measured cost -> each rank runs its own -> rows, or all values

Processes, groups and messages are those of PyTorch: start with ``torchrun``, or as you start your own. Every rank calls
the same functions with the same arguments, and f is the same on every rank.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar, Unpack

import torch
import torch.distributed as dist
from torch.utils._pytree import PyTree, tree_leaves, tree_map

from .._base.errors import InputError, OptionError
from .._base.ranks import Ranks
from .._base.words import Args, UserFunction, choose
from .._function.flat import Argnums
from .._matrices.pattern import SparsityPattern
from .._matrices.sparse import SparseMatrix
from .._plan.hessian import HessianPlan
from .._plan.jacobian import JacobianPlan
from .._plan.options import HessianOptions, JacobianOptions, Options, OptionsOfHessian
from .._plan.saving import Saved, read
from .._strategies.ranges import even
from .sharded import Sharded, refuse_graph

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

P = TypeVar("P", bound=JacobianPlan)

Gather = Literal["none", "rows", "all"]


@dataclass(frozen=True)
class Share:
    """The entries that one rank's own products gave; every entry belongs to one rank.

    entries: their places among ``plan.values``, ascending, (k,). values: (k,). pattern: of the whole matrix.
    """

    pattern: SparsityPattern
    entries: torch.Tensor
    values: torch.Tensor

    def matrix(self) -> SparseMatrix:
        """The (m, n) matrix with these entries alone; the sum of these matrices over the ranks is the Jacobian."""
        here = self.entries.cpu().numpy()
        part = SparsityPattern.from_coo(self.pattern.rows[here], self.pattern.indices[here], self.pattern.shape)
        return SparseMatrix(part, self.values)


@dataclass(frozen=True)
class Rows:
    """The rows ``start`` up to ``stop`` of the ravelled (m, n) Jacobian, on this rank.

    shape: (m, n). local: (stop - start, n), in the layout of the plan. Rows are cut as by ``torch.chunk``: the last
    ranks may have fewer, or none.
    """

    start: int
    stop: int
    shape: tuple[int, int]
    local: torch.Tensor
    group: dist.ProcessGroup | None

    def to_dtensor(self) -> DTensor:
        """The (m, n) matrix as a DTensor, ``Shard(0)`` over the group; no message, no copy.

        Raises
        ------
        OptionError: the layout is sparse, for which PyTorch has no DTensor, or there is no process group.
        """
        if self.local.layout is not torch.strided or self.group is None:
            missing = "without a process group" if self.group is None else f"of layout {self.local.layout}"
            raise OptionError(
                f"to_dtensor() of rows {missing}",
                expected="rows of a dense Jacobian, and a process group",
                why="a DTensor is made of dense tensors on the ranks of a group",
                instead="rows.local, with rows.start and rows.stop",
            )
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.tensor import DTensor, Shard

        mesh = DeviceMesh.from_group(self.group, self.local.device.type)
        n = self.shape[1]
        return DTensor.from_local(
            self.local, mesh, [Shard(0)], run_check=False, shape=torch.Size(self.shape), stride=(n, 1)
        )


def plan_jacobian(
    f: UserFunction,
    *args: object,
    argnums: Argnums = 0,
    group: dist.ProcessGroup | None = None,
    **options: Unpack[JacobianOptions],
) -> JacobianPlan:
    """The plan of ``torchjac.plan_jacobian`` on rank 0; the other ranks receive it, without pickle.

    >>> import torch, torchjac as tj
    >>> tj.distributed.plan_jacobian(lambda x: x[1:] * x[:-1], torch.rand(5))  # one process: a group of one
    JacobianPlan(4 x 5, 8 entries, 2 products, reverse)

    All ranks of ``group`` call it, with the same f and arguments. Each rank has its own device of the arguments, and
    its own options ``memory``, ``compile``, ``check``, ``layout`` and ``ravel``.

    Raises
    ------
    RankError: another rank raised or ended.
    FileError: an argument that is not differentiated cannot be sent, because it is no plain data.
    """
    parsed = Options.parse(dict(options))
    return _planned(lambda saved: JacobianPlan(f, args, argnums, parsed, saved), f, group)


def plan_hessian(
    f: UserFunction,
    *args: object,
    argnums: Argnums = 0,
    group: dist.ProcessGroup | None = None,
    **options: Unpack[HessianOptions],
) -> HessianPlan:
    """The plan of ``torchjac.plan_hessian`` on rank 0; the other ranks receive it, without pickle.

    >>> import torch, torchjac as tj
    >>> plan = tj.distributed.plan_hessian(lambda x: (x[1:] * x[:-1] ** 2).sum(), torch.rand(9))
    >>> tj.distributed.jacobian(plan, torch.ones(9)).shape  # Hessians are shared like Jacobians
    torch.Size([9, 9])

    Otherwise like ``plan_jacobian``.
    """
    parsed = OptionsOfHessian.parse(dict(options))
    return _planned(lambda saved: HessianPlan(f, args, argnums, parsed, saved), f, group)


def _planned(make: Callable[[Saved | None], P], f: UserFunction, group: dist.ProcessGroup | None) -> P:
    """The plan that ``make(None)`` prepares on rank 0; every other rank makes its plan from what rank 0 saved."""
    ranks = Ranks(group)

    def work() -> tuple[P | None, bytes | None]:
        if ranks.rank:
            return None, None
        plan = make(None)
        return plan, (_to_bytes(plan) if ranks.size > 1 else b"")

    (plan, data), _ = ranks.together(work)
    data = ranks.broadcast(data)
    mine, _ = ranks.together(lambda: plan or make(_from_bytes(data, f)))
    return mine


def _to_bytes(plan: JacobianPlan) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.npz"
        plan.save(path)
        return path.read_bytes()


def _from_bytes(data: bytes, f: UserFunction) -> Saved:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.npz"
        path.write_bytes(data)
        return read(path, f)


def jacobian(
    plan: JacobianPlan,
    *args: object,
    group: dist.ProcessGroup | None = None,
    gather: Gather = "all",
    lockstep: bool = False,
) -> PyTree:
    """The Jacobian (or Hessian) of ``plan`` at ``args``, its products shared by the ranks of ``group``.

    >>> import torch, torchjac as tj
    >>> plan = tj.distributed.plan_jacobian(lambda x: x[1:] * x[:-1], torch.rand(5), layout=torch.sparse_csr)
    >>> rows = tj.distributed.jacobian(plan, torch.arange(5.0), gather="rows")
    >>> rows.start, rows.stop, rows.local.shape  # of one process: all of them
    (0, 4, torch.Size([4, 5]))

    All ranks call it, with equal arguments, each on its own device and within its own ``memory=``, which bounds what
    products take, but not messages. On the first call each measures what its products cost; ranges are cut by that,
    and what the ranks computed is compared with one product of plain autograd (``check=``). A plan with
    mode="accumulate" has no products to share: every rank computes all values itself, and keeps what is asked for.

    Parameters
    ----------
    plan: the same on every rank, as ``torchjac.distributed.plan_jacobian`` or ``plan_hessian`` gives.
    gather: ``"all"`` for what ``plan(*args)`` gives, on every rank; ``"rows"`` for a block of rows on each, ``Rows``,
        which can become a DTensor; ``"none"`` for what a rank's own products gave, ``Share``, without sending numbers.
    lockstep: True where f itself waits for the other ranks (``fully_shard``, DTensors): every rank then runs equally
        many products in equally many chunks. Make the plan with ``torchjac.plan_jacobian`` on every rank then, with
        ``mode=`` and ``sparsity=`` given, so that nothing is measured.

    Raises
    ------
    RankError: another rank raised, or its process ended, or it has another plan, other arguments or random numbers.
    InputError: an argument requires grad: results of several processes carry no graph.

    Notes
    -----
    A rank that raises tells the others before any numbers are sent, and a process that ends is noticed by its broken
    connection, so nobody waits for it; one that hangs is waited for until the timeout of the group.
    """
    choose("gather", gather, Gather)
    if plan.options.has_aux:
        raise OptionError(
            "a plan with has_aux=True",
            expected="a plan of the output alone",
            why="aux would be that of one more call of f on every rank",
            instead="lambda x: f(x)[0], and f(x)[1] by itself",
        )
    ranks = Ranks(group)
    refuse_graph(args)
    sharded = _sharded(plan, ranks, args, lockstep)
    local = sharded.local(args)
    with torch.no_grad():
        if gather == "all":
            return plan.assembled(sharded.joining.all(local))
        if gather == "none":
            return Share(plan.pattern, *sharded.joining.own(local))
        return _rows(sharded, sharded.joining.block(local))


def _rows(sharded: Sharded, values: torch.Tensor) -> Rows:
    layout, plan = sharded.layout, sharded.plan
    start, stop = layout.rows[layout.ranks.rank], layout.rows[layout.ranks.rank + 1]
    if plan.options.blocksize is not None:
        raise OptionError(
            f"gather='rows' with layout={plan.options.layout}",
            expected="a layout of single entries, or gather='all'",
            why="the rows of a rank may begin inside a block",
            instead="layout=torch.sparse_csr, and BlockMatrix.from_matrix of the local rows",
        )
    local = sharded.block.matrix(plan.options.layout, values)
    return Rows(start, stop, plan.shape, local, layout.ranks.group)


def _sharded(plan: JacobianPlan, ranks: Ranks, args: Args, lockstep: bool) -> Sharded:
    key = (ranks.group, ranks.rank, ranks.size, lockstep)
    known: Sharded | None = plan.shared.get(key)
    if known is None or known.strategy is not plan.prepared.strategy:
        known = plan.shared[key] = Sharded(plan, ranks, args, lockstep)
    return known


def over_batch(
    run: UserFunction,
    *args: object,
    batched: int | tuple[int, ...] = 0,
    group: dist.ProcessGroup | None = None,
    gather: Literal["rows", "all"] = "all",
) -> PyTree:
    """The result of ``run(*args)``, each rank computing some samples: the first dimension of ``args[batched]`` is cut.

    >>> import torch, torchjac as tj
    >>> per_sample = torch.vmap(torch.func.jacrev(torch.sin))
    >>> tj.distributed.over_batch(per_sample, torch.rand(8, 3)).shape
    torch.Size([8, 3, 3])

    ``run`` gives tensors (or pytrees of them) whose first dimension is that of the samples, and treats every sample by
    itself, as ``torch.vmap`` of a Jacobian does. A rank may get fewer samples than others, or none: it then runs one
    for nothing, to know shapes.

    Parameters
    ----------
    batched: which arguments hold samples; the others go to every rank as they are.
    gather: ``"all"`` for all samples on every rank, ``"rows"`` for those of this rank alone.

    Raises
    ------
    RankError: another rank raised or ended. InputError: arguments of different numbers of samples, or none.
    """
    choose("gather", gather, Literal["rows", "all"])
    refuse_graph(args)
    ranks, positions = Ranks(group), (batched,) if isinstance(batched, int) else batched
    sizes = {len(leaf) for p in positions for leaf in tree_leaves(args[p])}
    if len(sizes) != 1 or 0 in sizes:
        raise InputError(
            f"batched arguments with {sorted(sizes)} samples", expected="as many samples in each, and at least one"
        )
    bounds = even(sizes.pop(), ranks.size)
    start, stop = bounds[ranks.rank], bounds[ranks.rank + 1]
    few = slice(start, stop) if start < stop else slice(0, 1)

    def work() -> PyTree:
        with torch.no_grad():
            cut = [tree_map(lambda t: t[few], a) if p in positions else a for p, a in enumerate(args)]
            return tree_map(lambda t: t[: stop - start], run(*cut))

    local, _ = ranks.together(work)
    if gather == "rows":
        return local
    counts = [b - a for a, b in itertools.pairwise(bounds)]
    return tree_map(lambda t: ranks.gather(t.contiguous(), counts).flatten(0, 1)[: sum(counts)], local)
