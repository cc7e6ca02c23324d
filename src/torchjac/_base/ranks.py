"""The processes of a torch.distributed group, and their messages when one of them raises or ends.

A collective that one rank never enters hangs. So before each, every rank tells every other its status in one small
message: what it computed with, or what was raised. A process that ended has a broken connection to each of the
others. That is an error at once, and tells which process it was; a collective alone would not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from .errors import OptionError, RankError, first_line

T = TypeVar("T")
Status = dict[str, Any]
"""The message of one rank to the others, as JSON: facts about its result, or the ``error`` that it raised."""

# all_gather_into_tensor is its name until torch 2.12
_all_gather: Callable[..., object] = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor

_BYTES = 1024  # of a message
_TAG = 0x7AC  # apart from messages of the caller


class Ranks:
    """The ranks of ``group``: the default group for None, and this process alone where there is none."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.alone = group is None and not (dist.is_available() and dist.is_initialized())
        self.group = None if self.alone else group or dist.group.WORLD
        self.rank = 0 if self.alone else dist.get_rank(self.group)
        self.size = 1 if self.alone else dist.get_world_size(self.group)
        if self.rank < 0:
            raise OptionError(
                "this process is not in the group",
                expected="a call by the ranks of the group, and by no other",
                instead="if dist.get_rank(group) >= 0: ...",
            )
        if not self.alone and "cpu" not in dist.get_backend_config(self.group):
            raise OptionError(
                f"a group with the backend {dist.get_backend_config(self.group)}",
                expected="a group with a backend for tensors on the CPU, besides",
                why="ranks tell each other how they are through it: a rank that raises then ends the others",
                instead="init_process_group('cpu:gloo,cuda:nccl')",
            )

    # ---- the status of every rank

    def together(self, work: Callable[[], T], status: Callable[[T], Status] = lambda _: {}) -> tuple[T, list[Status]]:
        """Run ``work`` on every rank; return its result and the status of each rank, or raise RankError.

        The rank that raises raises its own error, after the others know.
        """
        try:
            mine = work()
            own = status(mine)
        except BaseException as error:
            self._exchange({"error": f"{type(error).__name__}: {first_line(error)}"}, leaving=True)
            raise
        statuses = self._exchange(own)
        for rank, other in enumerate(statuses):
            if "error" in other:
                raise RankError(
                    f"rank {rank} raised {other['error']}",
                    expected="every rank to compute its part",
                    why=f"rank {self.rank} cannot go on without the part of rank {rank}",
                )
        return mine, statuses

    def same(self, statuses: Sequence[Status], name: str, what: str, instead: str) -> None:
        """Raise RankError unless all statuses have the same value under ``name``."""
        for rank, status in enumerate(statuses):
            if status.get(name) != statuses[0].get(name):
                raise RankError(
                    f"rank {rank} has other {what} than rank 0",
                    expected=f"the same {what} on every rank",
                    why="parts of different Jacobians do not make one",
                    instead=instead,
                )

    def _exchange(self, status: Status, leaving: bool = False) -> list[Status]:
        """The statuses of all ranks, in their order; a rank that is ``leaving`` ignores lost connections."""
        text = json.dumps(status).encode()
        if len(text) > _BYTES:
            text = json.dumps({"error": str(status.get("error", status))[: _BYTES // 8]}).encode()
        mine = torch.zeros(_BYTES, dtype=torch.uint8)
        mine[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        boxes = [mine if rank == self.rank else torch.zeros_like(mine) for rank in range(self.size)]
        gone: dict[int, str] = {}
        others = [rank for rank in range(self.size) if rank != self.rank]
        pending = [(rank, start) for start in (self._send, self._receive) for rank in others]
        works: list[tuple[int, dist.Work]] = []
        for rank, start in pending:
            try:
                works.append((rank, start(boxes[self.rank] if start == self._send else boxes[rank], rank)))
            except RuntimeError as error:
                gone.setdefault(rank, first_line(error))
        for rank, work in works:
            try:
                work.wait()
            except RuntimeError as error:
                gone.setdefault(rank, first_line(error))
        if gone and not leaving:
            raise self._gone(gone)
        return [json.loads(bytes(box[box != 0].tolist()) or b"{}") for box in boxes]

    def _send(self, box: torch.Tensor, rank: int) -> dist.Work:
        work = dist.isend(box, group=self.group, group_dst=rank, tag=_TAG)
        assert work is not None  # it is None only outside the group
        return work

    def _receive(self, box: torch.Tensor, rank: int) -> dist.Work:
        work = dist.irecv(box, group=self.group, group_src=rank, tag=_TAG)
        assert work is not None  # it is None only outside the group
        return work

    def _gone(self, gone: dict[int, str]) -> RankError:
        who = ", ".join(map(str, gone))
        return RankError(
            f"rank{'s' * (len(gone) > 1)} {who} ended, or cannot be reached",
            expected=f"all {self.size} processes of the group to be there until the end",
            why=next(iter(gone.values())),
            instead="the output of that process, for what ended it; then start all of them again",
        )

    def _run(self, collective: Callable[[], object]) -> None:
        """Run a collective; where a process ended meanwhile, raise an error that names it."""
        try:
            collective()
        except RuntimeError as error:
            self._exchange({"error": f"a collective failed: {first_line(error)}"})
            raise RankError(f"rank {self.rank} lost its connection", why=first_line(error)) from error

    # ---- data

    def swap(self, flat: torch.Tensor, sending: Sequence[int], receiving: Sequence[int]) -> torch.Tensor:
        """Send ``sending[r]`` numbers of ``flat`` to each rank r; return those received, in the order of ranks."""
        if self.size == 1:
            return flat
        out = flat.new_empty(sum(receiving))
        lengths = list(receiving), list(sending)
        self._run(lambda: dist.all_to_all_single(out, flat.contiguous(), *lengths, group=self.group))
        return out

    def gather(self, part: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
        """The parts of all ranks, padded to the longest: (size, largest count, ...)."""
        most = max(counts)
        if self.size == 1:
            return part[None]
        padded = part
        if len(part) < most:
            padded = part.new_zeros((most, *part.shape[1:]))
            padded[: len(part)] = part
        out = part.new_empty((self.size, *padded.shape))
        self._run(lambda: _all_gather(out.reshape(-1), padded.reshape(-1), group=self.group))
        return out

    def sum(self, part: torch.Tensor) -> torch.Tensor:
        """Add up ``part`` over the ranks, in place."""
        if self.size > 1:
            self._run(lambda: dist.all_reduce(part, group=self.group))
        return part

    def broadcast(self, data: bytes | None) -> bytes:
        """Return the bytes of rank 0 on every rank."""
        if self.size == 1:
            assert data is not None, "the first rank has them"
            return data
        length = torch.tensor([len(data) if data is not None else 0])
        self._run(lambda: dist.broadcast(length, group=self.group, group_src=0))
        box = torch.empty(int(length), dtype=torch.uint8)
        if data is not None:
            box = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        self._run(lambda: dist.broadcast(box, group=self.group, group_src=0))
        return box.numpy().tobytes()
