"""Lines of a dense Jacobian: computed some at a time, checked, and known to be of one function at one point."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils import _pytree as pytree

from .._base.errors import DerivativeMismatchError, FileError, InputError, OptionError
from .._base.memory import peak_bytes, text_bytes
from .._base.random_state import RandomState
from .._base.version import __version__
from .._base.words import Args, Direction, UserFunction
from .._function.flat import Argnums, FlatFunction
from .._products.reverse import Reverse
from .._products.rounding import close
from .._products.seeds import Seeds
from .._products.ways import Products
from .resumable import Header, PartFile
from .stores import Array, Dtype

FORMAT = 1  # of the journal

_PLAIN = (int, float, bool, complex, str, type(None), torch.dtype)
_FEW = 8  # so many products are measured, to know what one takes


class JacobianLines:
    """The lines of the Jacobian at one point: rows by reverse mode, or columns by forward mode."""

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
        self.dtype: Dtype = torch.empty(0, dtype=function.dtype).numpy().dtype
        self.products = Products(function, self.direction, 1)

    def compute(self, start: int, stop: int) -> Array:
        """Compute the lines from ``start`` up to ``stop``: (stop - start, width)."""
        self._draws.replay()
        colors = np.full(self.function.n if self.direction == "forward" else self.function.m, -1, np.int32)
        colors[start:stop] = np.arange(stop - start)
        seeds = Seeds(colors, self.function.dtype, self.function.device)
        self.products.chunk = stop - start
        lines: Array = self.products.compressed(self.args, seeds, stop - start).cpu().numpy()
        return lines

    def checked(self, start: int, stop: int, trusted: bool) -> Array:
        """Compute lines, and compare them with another product unless they are ``trusted``."""
        lines = self.compute(start, stop)
        if not trusted and not self.agree(start, lines):
            raise DerivativeMismatchError(
                f"rows of the Jacobian by {self.products.way} differ from a product of torch.autograd.grad",
                why="f is not the same from call to call (state?), or a formula of PyTorch is wrong",
                instead="torchjac.check_jacobian on a small case, to see which entries",
            )
        return lines

    def write(self, part: PartFile, start: int, stop: int, trusted: bool) -> None:
        """Write lines from ``start`` up to ``stop``, if there are any, without a note of it."""
        if start < stop:
            part.store.write(start, self.checked(start, stop, trusted))

    def part_file(self, target: Path) -> PartFile:
        """Return the file as it is while it is written."""
        return PartFile(target, self.shape, self.dtype, self.direction == "forward")

    def fit(self, budget: int) -> int:
        """Return how many lines at once keep within ``budget`` bytes, from what one takes and what a few take."""
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

    def agree(self, start: int, lines: Array) -> bool:
        """Tell whether a random combination of ``lines`` is what one unbatched product of plain autograd gives."""
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

    def header(self) -> Header:
        """Return what the first line of a journal says."""
        numbers = [base64.b64encode(state.numpy().tobytes()).decode() for state in self._draws.states]
        return {"torchjac": __version__, "format": FORMAT, "fingerprint": self.fingerprint(), "random": numbers}

    def take_up(self, header: Header, part: PartFile) -> None:
        """Go on with what ``header`` describes, on its random numbers; FileError if it is not of this function."""
        if (header.get("format"), header.get("fingerprint")) != (FORMAT, self.fingerprint()):
            raise FileError(
                f"the unfinished file of an earlier call (by torchjac {header.get('torchjac')}) is of another Jacobian",
                expected="the same function, argnums and inputs, to every bit, as when it was begun",
                why="a file of two Jacobians would be right for neither",
                instead="resume=False, to start anew, or another path",
            )
        if part.store.damaged() or not 0 <= part.done <= self.count:
            raise FileError(
                "the unfinished file of an earlier call is damaged",
                expected=f"a {self.shape[0]} x {self.shape[1]} matrix of {self.dtype}",
                instead="resume=False, to start anew",
            )
        self._take_random(header)
        if part.done:
            start = max(0, part.done - _FEW)
            if not self.agree(start, part.store.read(start, part.done)):
                raise FileError(
                    "the unfinished file of an earlier call holds other derivatives than f has now",
                    expected="the same f, its parameters included",
                    why=f"lines {start} to {part.done - 1} differ from a product computed now",
                    instead="resume=False, to start anew",
                )

    def join(self, header: Header, part: PartFile) -> None:
        """Write beside rank 0, which has opened the file and checked it; FileError where it is not to be seen."""
        if part.store.damaged():
            raise FileError(
                "the file that rank 0 began is not here",
                expected="one path, which all ranks see",
                why="every rank writes its lines itself",
                instead="a path on a file system that the machines of the group share",
            )
        self._take_random(header)
        part.done = header["done"]

    def _take_random(self, header: Header) -> None:
        states = [torch.from_numpy(np.frombuffer(base64.b64decode(s), np.uint8).copy()) for s in header["random"]]
        self._draws.states = states

    def fingerprint(self) -> str:
        """Return the hash of f's name, the signature, and every bit of the inputs."""
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


def _outside(leaf: object) -> str:
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
    """Tell whether all that is finite in both is equal up to rounding, at the largest scale."""
    if not got.numel():
        return True
    whole = torch.maximum(scale, expected.abs()).nan_to_num().amax(0)
    return bool(close(got, expected, whole, factor=8).all())
