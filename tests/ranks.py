"""Real processes for tests: a group that is started once and runs one function after another on every rank."""

from __future__ import annotations

import datetime
import multiprocessing
import queue
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class World:
    """``size`` processes in a gloo group; ``run(function, *args)`` gives what it returns on each rank."""

    def __init__(self, size: int, folder: Path) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.inboxes = [spawn.Queue() for _ in range(size)]
        self.outbox = spawn.Queue()
        self.processes = [
            spawn.Process(target=_serve, args=(rank, size, str(folder / "store"), self.inboxes[rank], self.outbox))
            for rank in range(size)
        ]
        for process in self.processes:
            process.start()

    def run(
        self, function: Callable[..., Any], *args: Any, dying: tuple[int, ...] = (), seconds: float = 60
    ) -> list[Any]:
        """What ``function(*args)`` returns on every rank, None for those that are to die."""
        for inbox in self.inboxes:
            inbox.put((function, args))
        results: dict[int, Any] = {}
        while len(results) < len(self.inboxes) - len(dying):
            try:
                rank, result, error = self.outbox.get(timeout=seconds)
            except queue.Empty:
                raise AssertionError(f"only ranks {sorted(results)} are done after {seconds} s") from None
            assert error is None, f"rank {rank}:\n{error}"
            results[rank] = result
        return [results.get(rank) for rank in range(len(self.inboxes))]

    def stop(self) -> None:
        for inbox in self.inboxes:
            inbox.put(None)
        for process in self.processes:
            process.join(10)
            if process.is_alive():
                process.kill()


def _serve(rank: int, size: int, store: str, inbox: Any, outbox: Any) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=datetime.timedelta(seconds=50)
    )
    while (job := inbox.get()) is not None:
        function, args = job
        try:
            outbox.put((rank, function(*args), None))
        except BaseException:
            outbox.put((rank, None, traceback.format_exc()))
