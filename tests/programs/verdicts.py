"""What torchjac makes of a random program, beside plain autograd, row by row, at two points.

Detection must have every entry that is not zero; where it says ``local``, at the first point only. Every mode must be
right at both points; ``accumulate`` may take the products instead, and says which op is why. No exception comes out,
torchjac's own included, where plain autograd has none.
"""

from __future__ import annotations

import random
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from oracles import dense_jacobian
from programs.program import Program
from torch.utils._pytree import tree_leaves

import torchjac as tj
from torchjac._accumulation.emission import MissingEntriesError
from torchjac._accumulation.errors import NOT_FOLLOWED, CannotAccumulateError
from torchjac._accumulation.program import build
from torchjac._detection.detect import detect
from torchjac._function.flat import FlatFunction

MODES = ("auto", "forward", "reverse", "accumulate")
_WAY_OUT = "mode='accumulate' uses colors here, because of "
_NO_FORWARD = "for a function without forward derivatives"
_LIMIT = 10**6


OPEN = {  # faults that are known, by what their texts have: each goes when it is mended
    "accumulate": [_NO_FORWARD],  # the products taken instead are chosen as if f had forward formulas
    "any": [
        "the input is empty",  # plain autograd differentiates it
        # no other way is tried after an IndexError: the batched backward of unbind, logcumsumexp of nothing
        "IndexError: Dimension out of range",
        "IndexError: max(): Expected reduction dim",
    ],
}


_SMALL = {  # limits from which on accumulation goes about its work otherwise
    "reading.sums._SPLIT": 2,
    "tape.columns._LONG": 3,
    "coefficients.compaction._FEW": 3,
    "reading.rewrites.choices.SHORT": 3,
    "reading.rewrites.windows.SHORT": 2,
    "reading.rewrites.linalg.SHORT": 3,
    "reading.rewrites.fourier.SHORT": 3,
    "emission._STRIPES": 2,
}


@contextmanager
def _limits(values: dict[str, int]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(mock.patch(f"torchjac._accumulation.{name}", value))
        yield


@dataclass(frozen=True)
class Fault:
    """``mode``: where; ``kind``: unsound, wrong, or the name of an exception."""

    mode: str
    kind: str
    text: str

    @property
    def known(self) -> bool:
        """Whether it is one of those that are open."""
        text = f"{self.kind}: {self.text}"
        return any(words in text for mode in (self.mode, "any") for words in OPEN.get(mode, ()))

    @property
    def key(self) -> tuple[str, str]:
        return self.mode, self.kind


@dataclass
class Verdict:
    """``skipped``: plain autograd does not take the program, or not at that point; ``refusals``: of accumulation."""

    faults: list[Fault] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    skipped: str = ""

    @contextmanager
    def watching(self, mode: str) -> Iterator[None]:
        """What is raised inside is a fault of that mode."""
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                yield
        except Exception as error:
            self.faults.append(Fault(mode, type(error).__name__, f"{error} {_raised_at(error)}"))
        for warning in said:
            text = str(warning.message)
            if issubclass(warning.category, tj.TorchjacWarning) and text.startswith("mode='accumulate'"):
                if not text.startswith(_WAY_OUT) or NOT_FOLLOWED in text:
                    self.faults.append(Fault(mode, "refusal", text))
                self.refusals.append(text.removeprefix(_WAY_OUT))

    def compare(self, mode: str, got: torch.Tensor, expected: torch.Tensor, tolerance: float, point: int) -> None:
        if got.shape != expected.shape:
            self.faults.append(Fault(mode, "shape", f"{tuple(got.shape)}, not {tuple(expected.shape)}"))
        elif not _close(got, expected, tolerance):
            self.faults.append(Fault(mode, "wrong", f"point {point}\n{got}\nplain autograd\n{expected}"))


def _raised_at(error: BaseException) -> str:
    """The innermost line of torchjac's source, or of another, that raised."""
    frames = traceback.extract_tb(error.__traceback__)
    inner = [frame for frame in frames if "torchjac" in frame.filename] or list(frames)
    return f"[{inner[-1].name}: {inner[-1].line}]"


def _close(got: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    """Whether all that plain autograd finds finite is the same; nan it spreads to what has no part in it."""
    finite = expected.isfinite()
    a, b = got[finite].double(), expected[finite].double()
    scale = max(1.0, float(b.abs().max())) if b.numel() else 1.0
    return torch.allclose(a, b, rtol=0, atol=tolerance * scale)


def judged(program: Program, modes: tuple[str, ...] = MODES, **options: Any) -> Verdict:
    """The verdict on a program; ``options`` are those of the plans."""
    verdict = Verdict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            f = program.function()
            points = [program.point(k) for k in range(2)]
            matrices = [_oracle(program, f, args) for args in points]
            if not len(matrices[0]):
                _pulled_once(f, points[0])
            own = [tuple(t.clone() for t in args) for args in points]
            if any(f(*args) is None or any(t._version for t in args) for args in own):
                raise ValueError("f writes to its inputs")
            if program.values == "random" and not all(bool(J.isfinite().all()) for J in matrices):
                raise ValueError("not finite")
        except Exception as error:
            verdict.skipped = f"{type(error).__name__}: {error}"
            return verdict
    loose = program.dtype == "float32" or ".float()" in program.source()
    case = _Case(program, f, points, matrices, 2e-3 if loose else 1e-8, verdict, options)
    (case.batch if program.kind == "batch" else case.plans)(modes)
    case.excuse()
    verdict.faults = [fault for fault in verdict.faults if not fault.known]
    return verdict


def _oracle(program: Program, f: Callable[..., Any], args: tuple[torch.Tensor, ...]) -> torch.Tensor:
    if program.kind == "hessian":
        return dense_jacobian(_gradient(f), args, program.argnums)
    return dense_jacobian(f, args, program.argnums)


def _pulled_once(f: Callable[..., Any], args: tuple[torch.Tensor, ...]) -> None:
    """Of a result without rows, whether plain autograd takes f at all."""
    leaves = [t.detach().clone().requires_grad_() for t in args]
    total = sum(t.sum() for t in tree_leaves(f(*(t.clone() for t in leaves))))
    if isinstance(total, torch.Tensor) and total.requires_grad:
        torch.autograd.grad(total, leaves, allow_unused=True)


def _gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    def gradient(*args: torch.Tensor) -> Any:
        y = f(*args)
        if not y.requires_grad:
            return [torch.zeros_like(t) for t in args]
        found = torch.autograd.grad(y, args, create_graph=True, allow_unused=True)
        return [torch.zeros_like(t) if g is None else g for g, t in zip(found, args, strict=True)]

    return gradient


@dataclass
class _Case:
    program: Program
    f: Callable[..., Any]
    points: list[tuple[torch.Tensor, ...]]
    matrices: list[torch.Tensor]
    tolerance: float
    verdict: Verdict
    options: dict[str, Any]

    def plans(self, modes: tuple[str, ...]) -> None:
        """Detection, then a plan in every mode."""
        program, first = self.program, self.points[0]
        hessian = program.kind == "hessian"
        pattern = None
        with self.verdict.watching("detection"):
            find = tj.hessian_sparsity if hessian else tj.jacobian_sparsity
            pattern = find(self.f, *first, argnums=program.argnums)
        if pattern is None:
            return
        far = pattern.scope == "global" and self.matrices[1].shape == self.matrices[0].shape
        there = pattern.to_dense()
        for k, J in enumerate(self.matrices[: 1 + far]):
            lost = (J != 0) & J.isfinite() & ~there  # what is not finite spreads: 0 * nan
            if lost.any():
                self.verdict.faults.append(Fault("detection", "unsound", f"point {k}: {lost.nonzero().tolist()}"))
        make = tj.plan_hessian if hessian else tj.plan_jacobian
        options = {**self.options, **self._entries()}
        for mode in modes:
            with self.verdict.watching(mode):
                plan = make(self.f, *first, argnums=program.argnums, mode=mode, ravel=True, **options)
                self._called(mode, plan, far, options.get("entries"))
        if not hessian and "accumulate" in modes:
            self._both_directions(pattern, far)

    def excuse(self) -> None:
        """Take back what is no fault: forward mode of what PyTorch cannot differentiate forward."""
        refused = [fault for fault in self.verdict.faults if _NO_FORWARD in fault.text]
        if refused and not self._has_forward():
            self.verdict.faults = [g for g in self.verdict.faults if g not in refused or g.mode != "forward"]

    def _has_forward(self) -> bool:
        """Whether PyTorch itself can differentiate f, or its gradient, forward."""
        f = torch.func.grad(self.f, self.program.argnums) if self.program.kind == "hessian" else self.f
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.func.jvp(f, self.points[0], tuple(map(torch.ones_like, self.points[0])))
        except Exception:
            return False
        return True

    def _entries(self) -> dict[str, Any]:
        if self.program.kind != "entries":
            return {}
        m, n = self.matrices[0].shape
        drawn = random.Random(self.program.seed)
        wanted = [k for k in range(m * n) if drawn.random() < 0.5]
        return {"entries": tj.SparsityPattern.from_coo([k // n for k in wanted], [k % n for k in wanted], (m, n))}

    def _called(self, mode: str, plan: Any, far: bool, entries: Any) -> None:
        for k, args in enumerate(self.points[: 1 + far]):
            expected = self.matrices[k]
            if entries is not None:
                expected = torch.where(entries.to_dense(), expected, 0)
            self.verdict.compare(mode, plan(*args), expected, self.tolerance, k)

    def _both_directions(self, pattern: tj.SparsityPattern, far: bool) -> None:
        """A plan takes one direction of accumulation; here is the other too, and no check between.

        Every other program is taken for a large one: what is few elsewhere is many there.
        """
        for direction in ("forward", "reverse"):
            with self.verdict.watching(f"accumulate {direction}"), _limits(_SMALL if self.program.seed % 2 else {}):
                function = FlatFunction(self.f, self.points[0], self.program.argnums)
                detect(function, self.points[0])  # f has run once when a program is built
                try:
                    made = build(function, self.points[0], pattern, direction, _LIMIT)  # type: ignore[arg-type]  # one of two
                except CannotAccumulateError as refusal:
                    if NOT_FOLLOWED in refusal.why:
                        raise
                    continue
                except MissingEntriesError:
                    continue  # a plan then takes the direction that the pattern is from
                for k, args in enumerate(self.points[: 1 + far]):
                    values, rows = made(args), torch.from_numpy(pattern.rows.copy()).long()
                    J = torch.zeros(pattern.shape, dtype=values.dtype)
                    J[rows, pattern.col_indices.long()] = values.detach()
                    self.verdict.compare(f"accumulate {direction}", J, self.matrices[k], self.tolerance, k)

    def batch(self, modes: tuple[str, ...]) -> None:
        """One Jacobian a sample."""
        for mode in modes:
            if mode == "accumulate":
                continue
            with self.verdict.watching(mode):
                for k, (x,) in enumerate(self.points):
                    J = tj.batch_jacobian(self.f, x, mode=mode)
                    y, whole = self.f(x), self.matrices[k]
                    blocks = whole.reshape(3, y.numel() // 3, 3, x.numel() // 3)
                    expected = torch.stack([blocks[b, :, b] for b in range(3)])
                    self.verdict.compare(mode, J.reshape(expected.shape), expected, self.tolerance, k)
