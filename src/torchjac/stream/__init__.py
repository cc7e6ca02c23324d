"""``write_jacobian``: a dense Jacobian larger than memory, to disk block by block, resumable."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from .._base import progress as progress_module
from .._base.errors import DerivativeMismatchError, FileError, InputError, OptionError
from .._base.memory import parse_bytes, peak_bytes, text_bytes
from .._base.random_state import RandomState
from .._base.ranks import Ranks
from .._base.version import __version__
from .._base.words import Args, Direction, UserFunction
from .._function.flat import Argnums, FlatFunction, on_tensors, ordinary
from .._products.reverse import Reverse
from .._products.seeds import Seeds
from .._products.ways import Products
from .resumable import Partial, check_path

FORMAT = 1  # of the journal

_PLAIN = (int, float, bool, complex, str, type(None), torch.dtype)
_FEW = 8  # so many products are measured, to know what one takes


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
                _write(target, _Blocks(f, own, argnums), budget, resume)
            else:
                _write_together(target, lambda: _Blocks(f, own, argnums), budget, resume, Ranks(group))
    return target


def _write(target: Path, blocks: _Blocks, budget: int, resume: bool) -> None:
    length = blocks.fit(budget)
    partial = blocks.partial(target)
    with partial.alone():
        _open(partial, blocks, length, resume)
        _fill(partial, blocks, length, trusted=partial.done > 0)
        partial.finish()


def _write_together(target: Path, make: Callable[[], _Blocks], budget: int, resume: bool, ranks: Ranks) -> None:
    """In rounds of one block a rank: when all are on the disk, rank 0, which holds the journal, says so in it."""
    if ranks.size > 1 and target.suffix != ".npy":
        raise OptionError(
            f"path={os.fspath(target)!r} with a group of {ranks.size} ranks",
            expected="a path that ends with .npy",
            why="two ranks could write to one chunk of a Zarr array at once",
            instead=f"path='{target.stem}.npy'",
        )
    (blocks, length), notes = ranks.together(
        lambda: (made := make(), made.fit(budget)), lambda made: {"of": made[0].fingerprint(), "length": made[1]}
    )
    ranks.same(notes, "of", "function or arguments", "torch.manual_seed(0), or torch.distributed.broadcast of them")
    length, partial, first = min(note["length"] for note in notes), blocks.partial(target), ranks.rank == 0
    with ExitStack() as stack:

        def begin() -> bytes | None:
            if not first:
                return None
            stack.enter_context(partial.alone())
            _open(partial, blocks, length, resume)
            return json.dumps({**blocks.header(), "done": partial.done}).encode()

        header = json.loads(ranks.broadcast(ranks.together(begin)[0]))
        if not first:
            ranks.together(lambda: blocks.join(header, partial))
        else:
            ranks.together(lambda: None)
        trusted = partial.done > 0
        for start in range(partial.done, blocks.count, length * ranks.size):
            mine = [min(start + length * k, blocks.count) for k in (ranks.rank, ranks.rank + 1, ranks.size)]
            ranks.together(lambda: blocks.write(partial, mine[0], mine[1], trusted))  # noqa: B023  # called at once
            trusted = True
            if first:
                partial.advance(mine[2])
                progress_module.advance(mine[2], blocks.count)
        ranks.together(partial.finish if first else lambda: None)


def _open(partial: Partial, blocks: _Blocks, length: int, resume: bool) -> None:
    header = partial.resume() if resume else None
    if header is None:
        partial.begin(blocks.header(), length)
    else:
        blocks.take_up(header, partial)


def _fill(partial: Partial, blocks: _Blocks, length: int, trusted: bool) -> None:
    for start, stop in _cuts(partial.done, blocks.count, length):
        progress_module.advance(start, blocks.count)
        partial.append(blocks.checked(start, stop, trusted))
        trusted = True


class _Blocks:
    """Lines of the Jacobian at one point: rows by reverse mode, columns by forward mode."""

    def __init__(self, f: UserFunction, args: Args, argnums: Argnums) -> None:
        self.args, self.function = args, FlatFunction(f, args, argnums)
        function = self.function
        self._draws = RandomState(function.device)  # every block is of the same random numbers
        function.bind(args)(*function.leaves(args))
        self._draws.replay()
        if function.dtype.is_complex or function.dtype is torch.bfloat16:
            raise InputError(
                f"a Jacobian of {function.dtype}",
                expected="float16, float32 or float64",
                why="NumPy has no bfloat16, and the derivative of a complex function is a real matrix",
                instead="x.float(), or torch.view_as_real for complex numbers",
            )
        self.shape = (function.m, function.n)
        self.direction: Direction = "forward" if function.n < function.m else "reverse"
        self.count = min(self.shape)
        self.dtype: np.dtype[Any] = torch.empty(0, dtype=function.dtype).numpy().dtype
        self.products = Products(function, self.direction, 1)

    def compute(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Lines from ``start`` up to ``stop``: (stop - start, width)."""
        self._draws.replay()
        colors = np.full(self.function.n if self.direction == "forward" else self.function.m, -1, np.int32)
        colors[start:stop] = np.arange(stop - start)
        seeds = Seeds(colors, self.function.dtype, self.function.device)
        self.products.chunk = stop - start
        lines: np.ndarray[Any, Any] = self.products.compressed(self.args, seeds, stop - start).cpu().numpy()
        return lines

    def checked(self, start: int, stop: int, trusted: bool) -> np.ndarray[Any, Any]:
        """Lines from ``start`` up to ``stop``, compared with another product unless ``trusted``."""
        lines = self.compute(start, stop)
        if not trusted and not self.agree(start, lines):
            raise DerivativeMismatchError(
                f"rows of the Jacobian by {self.products.way} differ from a product of torch.autograd.grad",
                why="f is not the same from call to call (state?), or a formula of PyTorch is wrong",
                instead="torchjac.check_jacobian on a small case, to see which entries",
            )
        return lines

    def write(self, partial: Partial, start: int, stop: int, trusted: bool) -> None:
        """Write lines from ``start`` up to ``stop``, if there are any, without a note of it."""
        if start < stop:
            partial.store.write(start, self.checked(start, stop, trusted))

    def partial(self, target: Path) -> Partial:
        """The file while it is written."""
        return Partial(target, self.shape, self.dtype, self.direction == "forward")

    def fit(self, budget: int) -> int:
        """How many lines at once keep within ``budget`` bytes, from what one takes and what a few take."""
        if self.count == 0:
            return 1
        one = peak_bytes(lambda: self.compute(0, 1))
        if one > budget:
            raise OptionError(
                f"memory={text_bytes(budget)!r} is too small for this Jacobian",
                expected=f"at least {text_bytes(one)}",
                why="that is what f and one product take",
                instead=f"memory={text_bytes(one)!r}",
            )
        few = min(_FEW, self.count)
        each = (peak_bytes(lambda: self.compute(0, few)) - one) / max(1, few - 1)
        return max(1, min(self.count, 1 + int((budget - one) / each) if each > 0 else self.count))

    # ---- is it right, and of the same function

    def agree(self, start: int, lines: np.ndarray[Any, Any]) -> bool:
        """Whether a random combination of ``lines`` is what one unbatched product of plain autograd gives."""
        block, stop = torch.from_numpy(lines).to(self.function.device), start + lines.shape[0]
        generator = torch.Generator().manual_seed(0)
        if self.direction == "reverse":
            u = torch.zeros(self.function.m, dtype=block.dtype)
            u[start:stop] = torch.randn(stop - start, generator=generator, dtype=torch.float64).to(u.dtype)
            u = u.to(block.device)
            weights, expected = u[start:stop, None], self._product(u)
            terms = (weights * block).T
        else:
            u = torch.randn(self.function.m, generator=generator, dtype=torch.float64).to(block)
            expected = self._product(u)[start:stop]
            terms = block * u
        return _close(terms.sum(1), expected, terms.abs().sum(1))

    def _product(self, u: torch.Tensor) -> torch.Tensor:
        self._draws.replay()
        return Reverse(self.function, self.args, plain=True).one(u)

    def header(self) -> dict[str, Any]:
        """What the first line of a journal says."""
        numbers = [base64.b64encode(state.numpy().tobytes()).decode() for state in self._draws.states]
        return {"torchjac": __version__, "format": FORMAT, "fingerprint": self.fingerprint(), "random": numbers}

    def take_up(self, header: dict[str, Any], partial: Partial) -> None:
        """Go on with what ``header`` describes, on its random numbers; FileError if it is not of this function."""
        if (header.get("format"), header.get("fingerprint")) != (FORMAT, self.fingerprint()):
            raise FileError(
                f"the unfinished file of an earlier call (by torchjac {header.get('torchjac')}) is of another Jacobian",
                expected="the same function, argnums and inputs, to every bit, as when it was begun",
                why="a file of two Jacobians would be right for neither",
                instead="resume=False, to start anew, or another path",
            )
        if partial.store.damaged() or not 0 <= partial.done <= self.count:
            raise FileError(
                "the unfinished file of an earlier call is damaged",
                expected=f"a {self.shape[0]} x {self.shape[1]} matrix of {self.dtype}",
                instead="resume=False, to start anew",
            )
        self._take_random(header)
        if partial.done:
            start = max(0, partial.done - _FEW)
            if not self.agree(start, partial.store.read(start, partial.done)):
                raise FileError(
                    "the unfinished file of an earlier call holds other derivatives than f has now",
                    expected="the same f, its parameters included",
                    why=f"lines {start} to {partial.done - 1} differ from a product computed now",
                    instead="resume=False, to start anew",
                )

    def join(self, header: dict[str, Any], partial: Partial) -> None:
        """Write beside rank 0, which has opened the file and checked it; FileError where it is not to be seen."""
        if partial.store.damaged():
            raise FileError(
                "the file that rank 0 began is not here",
                expected="one path, which all ranks see",
                why="every rank writes its lines itself",
                instead="a path on a file system that the machines of the group share",
            )
        self._take_random(header)
        partial.done = header["done"]

    def _take_random(self, header: dict[str, Any]) -> None:
        states = [torch.from_numpy(np.frombuffer(base64.b64decode(s), np.uint8).copy()) for s in header["random"]]
        self._draws.states = states

    def fingerprint(self) -> str:
        """Of f's name, the signature, and every bit of the inputs."""
        f, leaves = self.function.f, pytree.tree_flatten(self.args)
        digest = hashlib.sha256()
        for part in (getattr(f, "__qualname__", type(f).__qualname__), self.function.positions, self.shape, leaves[1]):
            digest.update(f"{part}\n".encode())
        for leaf in leaves[0]:
            digest.update(f"{_outside(leaf)}\n".encode())
            if isinstance(leaf, torch.Tensor):
                for part in _dense_parts(leaf):
                    digest.update(part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()


def _outside(leaf: Any) -> str:
    if isinstance(leaf, torch.Tensor):
        return f"{leaf.dtype} {tuple(leaf.shape)} {leaf.layout} {leaf.device.type}"
    return repr(leaf) if isinstance(leaf, _PLAIN) else type(leaf).__qualname__


def _dense_parts(t: torch.Tensor) -> Iterator[torch.Tensor]:
    if t.layout is torch.strided:
        yield t.resolve_conj().resolve_neg()
    else:
        coo = t.to_sparse_coo().coalesce()
        yield from (coo.indices(), coo.values())


def _close(got: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor) -> bool:
    """Equal up to rounding, where both are finite."""
    tolerance = 8 * math.sqrt(torch.finfo(got.dtype).eps) * torch.maximum(scale, expected.abs()).nan_to_num().amax(0)
    off = (got - expected).abs()
    return not bool(((off > tolerance) & got.isfinite() & expected.isfinite()).any()) if off.numel() else True


def _cuts(start: int, stop: int, length: int) -> Iterator[tuple[int, int]]:
    for at in range(start, stop, length):
        yield at, min(at + length, stop)
