"""A random program as data: inputs, steps and outputs. It can be written as Python, run, shortened and compared."""

from __future__ import annotations

import itertools
import linecache
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from programs import parts
from torch.nn import functional as F

DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class Input:
    """A tensor of ``shape``; ``layout``: plain, transposed (in memory), every second (of a larger one), expanded."""

    name: str
    shape: tuple[int, ...]
    layout: str = "plain"

    def at(self, generator: torch.Generator, dtype: torch.dtype, values: str) -> torch.Tensor:
        """Numbers for it; ``values``: random, or hostile ones, with zeros and ties."""
        if self.layout == "transposed":
            return _numbers(self.shape[::-1], generator, dtype, values).permute(tuple(range(len(self.shape))[::-1]))
        if self.layout == "every second" and self.shape:
            return _numbers((*self.shape[:-1], 2 * self.shape[-1]), generator, dtype, values)[..., ::2]
        if self.layout == "expanded" and self.shape:
            return _numbers((1, *self.shape[1:]), generator, dtype, values).expand(self.shape)
        return _numbers(self.shape, generator, dtype, values)


def _numbers(shape: Any, generator: torch.Generator, dtype: torch.dtype, values: str) -> torch.Tensor:
    if values == "hostile":
        few = torch.tensor([0.0, 0.0, 1.0, 1.0, -1.0, 0.5, 2.0], dtype=dtype)
        return few[torch.randint(len(few), tuple(shape), generator=generator)]
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float64).to(dtype) * 0.8


@dataclass(frozen=True)
class Step:
    """An op: its text, where {0}, {1} stand for the operands, and {out}, {more} for what it makes."""

    op: str
    text: str
    operands: tuple[str, ...]
    targets: tuple[str, ...]

    def lines(self) -> list[str]:
        names = dict(zip(("out", "more"), self.targets, strict=False))
        return self.text.format(*self.operands, **names).split("\n")

    def renamed(self, old: str, new: str) -> Step:
        """With another operand."""
        return replace(self, operands=tuple(new if name == old else name for name in self.operands))


@dataclass(frozen=True)
class Program:
    """``kind``: jacobian, hessian, entries or batch; ``tree``: how outputs are returned."""

    seed: int
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]
    kind: str = "jacobian"
    dtype: str = "float64"
    tree: str = "tuple"
    values: str = "random"

    @property
    def argnums(self) -> tuple[int, ...]:
        return tuple(range(len(self.inputs)))

    def point(self, number: int) -> tuple[torch.Tensor, ...]:
        """The inputs at a point: 0 is where plans are made."""
        return tuple(self._input(x, number) for x in self.inputs)

    def _input(self, x: Input, number: int) -> torch.Tensor:
        """An input at a point; what other inputs there are changes nothing."""
        generator = torch.Generator().manual_seed(self.seed * 100 + number * 10 + int(x.name[1:]))
        samples = [x.at(generator, DTYPES[self.dtype], self.values) for _ in range(3 if self.kind == "batch" else 1)]
        return torch.stack(samples) if self.kind == "batch" else samples[0]

    def result(self) -> str:
        """What f returns, in words of Python."""
        if self.kind == "hessian":
            flat = [f"{name}.reshape(-1)" for name in self.outputs]
            return " + ".join(f"({t} * {t}.roll(1) + {t}.sin()).sum()" for t in flat)
        if self.tree == "dict":
            return "{" + ", ".join(f'"{name}": {name}' for name in self.outputs) + "}"
        return ", ".join(self.outputs)

    def source(self) -> str:
        """f in Python."""
        names = ", ".join(x.name for x in self.inputs)
        body = [line for step in self.steps for line in step.lines()]
        lines = [f"def f({names}):", *(f"    {line}" for line in [*body, f"return {self.result()}"])]
        if self.kind == "batch":
            lines[0] = f"def one({names}):"
            (out,) = self.outputs
            lines[-1] = f"    return {out}"
            rows = ", ".join(f"{x.name}[k]" for x in self.inputs)
            lines += [f"def f({names}):", f"    return torch.stack([one({rows}) for k in range(3)])"]
        return "\n".join(lines) + "\n"

    @staticmethod
    def function_space() -> dict[str, Any]:
        """What the source may name."""
        return {"__name__": "program", "torch": torch, "F": F, **_PARTS}

    def function(self) -> Callable[..., Any]:
        """f, with its source where tracebacks look for it."""
        name, source = f"program_{self.seed}_{next(_NUMBERS)}.py", self.source()
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        space = self.function_space()
        exec(compile(source, name, "exec"), space)
        f: Callable[..., Any] = space["f"]
        return f


_NUMBERS = itertools.count()
_PARTS = {name: getattr(parts, name) for name in "constant like layer cube straight joined".split()}
