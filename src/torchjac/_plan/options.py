"""The options of every Jacobian and Hessian, with their defaults and their meaning."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from typing import Any, Self, TypedDict

import torch

from .._base.errors import OptionError
from .._base.memory import parse_bytes
from .._base.words import Check, Mode, SymmetricRecovery, Uplo, choose
from .._matrices.blocking import BLOCK_LAYOUTS
from .._matrices.conversion import PatternLike
from .._matrices.layouts import LAYOUTS

Given = dict[str, Any]
"""Options by name, as the caller or a file gives them: none of the values is checked yet."""

CompileOptions = bool | dict[str, Any]
"""Whether to compile; a dict holds options for ``torch.compile``."""


class JacobianOptions(TypedDict, total=False):
    """The keyword arguments of ``jacobian`` and ``plan_jacobian``; see ``Options`` for their meaning."""

    layout: torch.layout
    blocksize: tuple[int, int] | tuple[tuple[int, int], ...] | None
    ravel: bool
    mode: Mode
    sparsity: str | PatternLike | None
    entries: str | PatternLike | None
    has_aux: bool
    check: Check
    memory: int | str | None
    compile: CompileOptions
    progress: bool


class HessianOptions(JacobianOptions, total=False):
    """The keyword arguments of ``hessian`` and ``plan_hessian``; see ``OptionsOfHessian`` for their meaning."""

    uplo: Uplo
    recovery: SymmetricRecovery


@dataclass(frozen=True)
class Options:
    """The options of a Jacobian, as the caller chose them.

    layout: the layout of the result; strided has the shapes of ``torch.func.jacrev``, sparse ones are 2-D over ravelled
        leaves.
    blocksize: the size of blocks in a block layout, (p, q) for all matrices, or one (p, q) for each input leaf.
    ravel: one (m, n) matrix over all leaves, instead of one for each pair of leaves.
    mode: forward products, reverse products, both, a program for the nonzeros themselves, or the cheapest (auto).
    sparsity: "detect", a pattern, or None for a dense Jacobian.
    entries: "diagonal" or a pattern, to compute and store only these entries; None for all.
    has_aux: f returns (output, aux), and the result becomes (J, aux).
    check: compare with an independent product on the first call, on every call, or never.
    memory: bytes of tensors that a call may add to its result at its peak, its check included, as a number or as
        ``"500MiB"``; None for a share of what is free. It decides how many products run at once, and with
        mode="auto" a direction that does not fit is given up for one that does. A graph for gradients takes more
        memory on top. A process may grow by some megabytes more, because glibc keeps freed pieces of its heap; with
        MALLOC_MMAP_THRESHOLD_=65536 in its environment it does not; below 8 MiB the scratch of kernels counts too.
    compile: products and decompression as one compiled program from the second call on; a dict of options for
        ``torch.compile``. Where gradients are wanted, or it cannot be compiled, it runs eagerly and says so. f must
        not read Python state that changes between calls: the program is captured once.
    progress: on a terminal or in a notebook, show the progress of detection, coloring and evaluation once one takes
        more than a second. Nothing is written to a pipe or a file.
    """

    layout: torch.layout = torch.strided
    blocksize: tuple[int, int] | tuple[tuple[int, int], ...] | None = None
    ravel: bool = False
    mode: Mode = "auto"
    sparsity: str | PatternLike | None = "detect"
    entries: Any = None  # str | PatternLike | None, as above
    has_aux: bool = False
    check: Check = "first"
    memory: int | str | None = None
    compile: CompileOptions = False
    progress: bool = False

    @property
    def budget(self) -> int | None:
        """The option ``memory`` in bytes; None without a limit."""
        return None if self.memory is None else parse_bytes(self.memory)

    @property
    def may_be_dense(self) -> bool:
        """Whether a dense computation can give the result: neither layout nor mode needs a pattern."""
        return self.layout is torch.strided and self.mode == "auto"

    @classmethod
    def parse(cls, given: Given) -> Self:
        """Return the options that are given by name; OptionError for a name or a value that does not exist."""
        if not given:
            return cls()
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise OptionError(
                    f"there is no option {name!r}",
                    expected=f"one of {', '.join(known)}",
                    instead=f"{near[0]}={given[name]!r}"
                    if near
                    else f"functools.partial(f, {name}=...) instead of f, if {name} is an argument of f",
                )
        if "blocksize" in given:
            given = given | {"blocksize": _tuples(given["blocksize"])}  # from a file come lists
        options = cls(**given)
        choose("mode", options.mode, Mode)
        choose("check", options.check, Check)
        if not isinstance(options.compile, (bool, dict)):
            raise OptionError(f"compile={options.compile!r} is not an option", expected="True, False or a dict")
        for name in ("ravel", "has_aux", "progress"):
            if not isinstance(getattr(options, name), bool):
                raise OptionError(f"{name}={getattr(options, name)!r} is not an option", expected="True or False")
        _ = options.budget  # raises OptionError for a text that is no size
        if options.layout not in LAYOUTS:
            raise OptionError(f"layout={options.layout!r}", expected=f"one of {', '.join(map(str, LAYOUTS))}")
        _check_blocksize(options)
        sparsity = options.sparsity
        if sparsity is not None and isinstance(sparsity, str) and sparsity != "detect":
            raise OptionError(f"sparsity={sparsity!r}", expected="'detect', a SparsityPattern, or None for dense")
        if isinstance(options.entries, str) and options.entries != "diagonal":
            raise OptionError(f"entries={options.entries!r}", expected="'diagonal', a pattern, or None for all entries")
        return options


@dataclass(frozen=True)
class OptionsOfHessian(Options):
    """The options of a Hessian, as the caller chose them: those of a Jacobian, and two more.

    mode: forward-over-reverse, reverse-over-reverse, or "auto" for the first unless it is clearly slower.
    uplo: store all entries, or those of one triangle and the diagonal.
    recovery: read every entry off a product, or solve for some, with fewer products; "auto" for the faster.
    """

    uplo: Uplo = "full"
    recovery: SymmetricRecovery = "auto"

    @classmethod
    def parse(cls, given: Given) -> Self:
        """Return the options that are given by name, each checked."""
        options = super().parse(given)
        choose("uplo", options.uplo, Uplo)
        choose("recovery", options.recovery, SymmetricRecovery)
        if options.mode == "bidirectional":
            raise OptionError(
                "mode='bidirectional' for a Hessian",
                expected="'auto', 'forward' or 'reverse'",
                why="a Hessian is symmetric: rows and columns share their products already",
                instead="mode='auto'",
            )
        return options


def _tuples(nested: object) -> object:
    return tuple(map(_tuples, nested)) if isinstance(nested, (list, tuple)) else nested


def _check_blocksize(options: Options) -> None:
    blocked, size = options.layout in BLOCK_LAYOUTS, options.blocksize
    if blocked != (size is not None):
        raise OptionError(
            f"layout={options.layout} with blocksize={size!r}",
            expected="a blocksize for sparse_bsr and sparse_bsc, and for no other layout",
            instead=f"layout={options.layout}, blocksize=(2, 3)" if blocked else "layout=torch.sparse_bsr",
        )
    if size is None:
        return
    sizes = (size,) if isinstance(size, tuple) and size and isinstance(size[0], int) else size
    if not isinstance(sizes, tuple) or not sizes or not all(_is_size(s) for s in sizes):
        raise OptionError(
            f"blocksize={size!r}",
            expected="(rows, columns) of a block, or one such pair for each input",
            instead="blocksize=(2, 9), or ((2, 9), (2, 3)) for two inputs",
        )


def _is_size(size: object) -> bool:
    return isinstance(size, tuple) and len(size) == 2 and all(isinstance(k, int) and k > 0 for k in size)
