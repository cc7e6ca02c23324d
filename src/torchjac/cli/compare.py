"""One way to a Jacobian, timed in a process of its own: what it takes of time and memory ends with it.

``python -m torchjac.cli.compare job.json`` is that process; ``time_apart`` starts it and reads what it found.
"""

from __future__ import annotations

import json
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._pytree import tree_leaves

from .._base.errors import first_line
from .._base.memory import text_bytes
from .._plan.verbs import plan_jacobian
from .._products.chunk import out_of_memory
from .target import Target, target

WAYS = ("torchjac", "torch.func.jacfwd", "torch.func.jacrev", "torch.autograd.functional.jacobian")
Numbers = npt.NDArray[np.float64]

_STARTUP = 120.0  # seconds until PyTorch and the function are there
_REPEATS = 7


@dataclass(frozen=True)
class TimedWay:
    """A way to time, and on what. ``seconds``: for everything; ``memory``: bytes beyond those at the start."""

    way: str
    name: str
    inputs: list[str]
    init: str
    device: str
    wrt: str | None
    seconds: float
    memory: int
    threads: int


class Timing(TypedDict, total=False):
    """The figures of one way, or the ``error`` that it ended with."""

    way: str
    prepare: float
    first: float
    seconds: float
    peak: int
    product: Numbers
    error: str
    difference: float
    verdict: str


def time_apart(job: TimedWay) -> Timing:
    """Time one way in a new process: ``seconds`` are of a call, ``peak`` in bytes, ``product`` is there to compare."""
    with TemporaryDirectory(prefix="torchjac-") as folder:
        file, out = Path(folder, "job.json"), Path(folder, "out.npz")
        file.write_text(json.dumps(asdict(job)))
        command = [sys.executable, "-m", "torchjac.cli.compare", str(file), str(out)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            _, said = process.communicate(timeout=job.seconds + _STARTUP)
        except subprocess.TimeoutExpired:
            return {"way": job.way, "error": f"more than {job.seconds:g} s"}
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return {"way": job.way, **_read(job, out, process.returncode, said)}


def _read(job: TimedWay, out: Path, code: int, said: str) -> Timing:
    if out.exists():
        with np.load(out, allow_pickle=False) as stored:
            about: Timing = json.loads(str(stored["about"]))
            return {**about, "product": stored["product"]}
    if code == -signal.SIGALRM:
        return {"error": f"more than {job.seconds:g} s"}
    if code in (-signal.SIGABRT, -signal.SIGKILL):
        return {"error": f"more than {text_bytes(job.memory)}"}
    return {"error": (said.strip().splitlines() or [f"exit code {code}"])[-1]}


def time_here(job: TimedWay, out: Path) -> None:
    """Time one way in this process, and write what was found."""
    torch.set_num_threads(job.threads)
    what = target(job.name, job.inputs, job.init, job.device, job.wrt)
    _limit(job)
    before = _peak(job.device)
    about: Timing
    product: Numbers
    try:
        about, product = _timed(_WAYS[job.way], what, job.seconds)
        about["peak"] = max(_peak(job.device) - before, 0)
    except (RuntimeError, MemoryError) as error:
        too_much = isinstance(error, MemoryError) or out_of_memory(error)
        reason = f"more than {text_bytes(job.memory)}" if too_much else f"fails: {first_line(error)}"
        about, product = {"error": reason}, np.zeros(0)
    except Exception as error:  # whatever f raises is the result of this way
        about, product = {"error": f"fails: {first_line(error)}"}, np.zeros(0)
    with out.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), product=product)


def _limit(job: TimedWay) -> None:
    """Let this process end where it takes more time or memory."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, inside a kernel too
    signal.setitimer(signal.ITIMER_REAL, job.seconds)
    if job.device.startswith("cuda"):
        total = torch.cuda.get_device_properties(job.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, job.memory / total), job.device)
    pages = Path("/proc/self/statm")
    if job.device == "cpu" and pages.exists():
        now = int(pages.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + job.memory, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _peak(device: str) -> int:
    """Return the most bytes so far: of the process, or of tensors on a GPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


Call = Callable[[], torch.Tensor]
Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Prepare = Callable[[Target], tuple[Call, Product]]
"""From a function and its inputs to a call that gives its Jacobian, and to the product of a Jacobian with a vector."""


def _timed(make: Prepare, what: Target, most: float) -> tuple[Timing, Numbers]:
    start = time.perf_counter()
    call, product = make(what)
    prepare = time.perf_counter() - start
    result, first = _once(call)
    taken = [first]
    while len(taken) <= _REPEATS and sum(taken) + prepare < most / 3:
        result, seconds = _once(call)
        taken.append(seconds)
    n = sum(what.args[k].numel() for k in what.argnums)
    v = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    about: Timing = {"prepare": prepare, "first": first, "seconds": statistics.median(taken[1:] or taken)}
    numbers: Numbers = product(result, v).double().cpu().numpy()
    return about, numbers


def _once(call: Call) -> tuple[torch.Tensor, float]:
    start = time.perf_counter()
    result = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def _ours(what: Target) -> tuple[Call, Product]:
    plan = plan_jacobian(what.f, *what.args, argnums=what.argnums, ravel=True, layout=torch.sparse_csr)
    return lambda: plan(*what.args), lambda J, v: J @ v.to(J)


def _flat(what: Target) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """Return f as a function (n,) -> (m,), and its argument."""
    chosen = [what.args[k] for k in what.argnums]

    def g(x: torch.Tensor) -> torch.Tensor:
        args, parts = list(what.args), x.split([t.numel() for t in chosen])
        for k, like, part in zip(what.argnums, chosen, parts, strict=True):
            args[k] = part.reshape(like.shape).to(like.dtype)
        return torch.cat([out.reshape(-1) for out in tree_leaves(what.f(*args))])

    return g, torch.cat([t.detach().reshape(-1) for t in chosen])


def _dense(way: Callable[..., Callable[[torch.Tensor], torch.Tensor]]) -> Prepare:
    def make(what: Target) -> tuple[Call, Product]:
        g, x = _flat(what)
        return lambda: way(g)(x), lambda J, v: J @ v.to(J)

    return make


_WAYS: dict[str, Prepare] = {
    WAYS[0]: _ours,
    WAYS[1]: _dense(torch.func.jacfwd),
    WAYS[2]: _dense(torch.func.jacrev),
    WAYS[3]: _dense(lambda g: lambda x: torch.autograd.functional.jacobian(g, x)),
}


if __name__ == "__main__":
    time_here(TimedWay(**json.loads(Path(sys.argv[1]).read_text())), Path(sys.argv[2]))
