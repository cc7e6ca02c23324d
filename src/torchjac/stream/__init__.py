"""A dense Jacobian larger than memory, written to disk block by block by calls that can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from .._base import progress as progress_module
from .._base.errors import OptionError
from .._base.memory import parse_bytes
from .._base.ranks import Ranks
from .._base.words import UserFunction
from .._function.flat import Argnums, on_tensors, ordinary
from .lines import JacobianLines
from .resumable import PartFile
from .stores import check_path


def write_jacobian(
    f: UserFunction,
    *args: Any,
    path: str | os.PathLike[str],
    memory: int | str = "256MiB",
    resume: bool = True,
    argnums: Argnums = 0,
    group: torch.distributed.ProcessGroup | None = None,
    progress: bool = True,
) -> Path:
    """Write the dense (m, n) Jacobian of ``f`` at ``args`` to a file, a block at a time.

    >>> import numpy as np, torch, torchjac as tj
    >>> path = tj.write_jacobian(torch.cumsum, torch.rand(1000), 0, path="J.npy", memory="1MiB")
    >>> J = np.load(path, mmap_mode="r")
    >>> J.shape, J[2, :4].tolist()
    ((1000, 1000), [1.0, 1.0, 1.0, 0.0])

    Rows are written by reverse mode, or columns by forward mode (a file in Fortran order) where n < m. While it is
    written the file is called ``path.part``; it gets its name, and replaces what had it, when it is complete. A call
    that was interrupted, killed even, is taken up by the same call again: blocks on the disk are not computed again.

    Parameters
    ----------
    path: ends with ``.npy`` (read it with ``numpy.load(path, mmap_mode="r")``), or ``.zarr`` where zarr is installed.
    memory: how much a block may take at its peak, such as ``"2GiB"``, beside what f itself is given.
    resume: go on with an unfinished file of the same f and inputs; False: start anew.
    argnums: which arguments are differentiated; a number, or a tuple of them.
    group: of ``torch.distributed``, whose ranks all call this with the same arguments and write one ``.npy`` file
        together, which all of them must see. Any number of ranks, or one process, goes on with what others began.
    progress: a bar, after a second, on a terminal or in a notebook.

    Raises
    ------
    RankError: another rank of ``group`` raised or ended; what was written stays, for the next call.
    FileError: an unfinished file is of another f or other inputs, or is damaged.
    OptionError: ``memory`` is too small for one product, or ``path`` has another suffix.
    InputError, OutputError: f or its arguments cannot be differentiated.
    DerivativeMismatchError: batched products and one of plain autograd disagree.
    """
    target = Path(path)
    check_path(target)
    budget = parse_bytes(memory)
    with ordinary(args) as own, torch.no_grad():
        own = on_tensors(torch.detach, own)
        with progress_module.progress(target.name, progress, counted=True):
            if group is None:
                _write(target, JacobianLines(f, own, argnums), budget, resume)
            else:
                _write_together(target, lambda: JacobianLines(f, own, argnums), budget, resume, Ranks(group))
    return target


def _write(target: Path, lines: JacobianLines, budget: int, resume: bool) -> None:
    length = lines.fit(budget)
    part = lines.part_file(target)
    with part.alone():
        _open(part, lines, length, resume)
        _fill(part, lines, length, trusted=part.done > 0)
        part.finish()


def _write_together(target: Path, make: Callable[[], JacobianLines], budget: int, resume: bool, ranks: Ranks) -> None:
    """Write in rounds of one block a rank: when all are on the disk, rank 0 says so in the journal, which it holds."""
    if ranks.size > 1 and target.suffix != ".npy":
        raise OptionError(
            f"path={os.fspath(target)!r} with a group of {ranks.size} ranks",
            expected="a path that ends with .npy",
            why="two ranks could write to one chunk of a Zarr array at once",
            instead=f"path='{target.stem}.npy'",
        )
    (lines, length), notes = ranks.together(
        lambda: (made := make(), made.fit(budget)), lambda made: {"of": made[0].fingerprint(), "length": made[1]}
    )
    ranks.same(notes, "of", "function or arguments", "torch.manual_seed(0), or torch.distributed.broadcast of them")
    length, part, first = min(note["length"] for note in notes), lines.part_file(target), ranks.rank == 0
    with ExitStack() as stack:

        def begin() -> bytes | None:
            if not first:
                return None
            stack.enter_context(part.alone())
            _open(part, lines, length, resume)
            return json.dumps({**lines.header(), "done": part.done}).encode()

        header = json.loads(ranks.broadcast(ranks.together(begin)[0]))
        if not first:
            ranks.together(lambda: lines.join(header, part))
        else:
            ranks.together(lambda: None)
        trusted = part.done > 0
        for start in range(part.done, lines.count, length * ranks.size):
            mine = [min(start + length * k, lines.count) for k in (ranks.rank, ranks.rank + 1, ranks.size)]
            ranks.together(lambda: lines.write(part, mine[0], mine[1], trusted))  # noqa: B023  # called at once
            trusted = True
            if first:
                part.advance(mine[2])
                progress_module.advance(mine[2], lines.count)
        ranks.together(part.finish if first else lambda: None)


def _open(part: PartFile, lines: JacobianLines, length: int, resume: bool) -> None:
    header = part.resume() if resume else None
    if header is None:
        part.begin(lines.header(), length)
    else:
        lines.take_up(header, part)


def _fill(part: PartFile, lines: JacobianLines, length: int, trusted: bool) -> None:
    for start, stop in _cuts(part.done, lines.count, length):
        progress_module.advance(start, lines.count)
        part.append(lines.checked(start, stop, trusted))
        trusted = True


def _cuts(start: int, stop: int, length: int) -> Iterator[tuple[int, int]]:
    for at in range(start, stop, length):
        yield at, min(at + length, stop)
