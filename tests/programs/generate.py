"""Random programs: a seed makes one, step by step; a step that does not run, or grows too large, is drawn again."""

from __future__ import annotations

import random
import warnings
from typing import Any

import torch
from programs.program import Input, Program, Step
from programs.steps import STEPS, parameters

SHAPES = [(3,), (4,), (6,), (8,), (2, 3), (3, 2), (3, 3), (2, 4), (2, 2, 2), (1, 5), (4, 1), (1,), (), (0,), (2, 0)]
_LIKELY = [9, 9, 9, 9, 9, 9, 9, 9, 7, 4, 4, 2, 2, 1, 1]
_LARGEST, _MOST_DIMS, _BOUND, _TRIES = 30, 4, 30.0, 12
_KINDS = {
    "views": 3,
    "moves": 3,
    "gathers": 3,
    "writes": 4,
    "pointwise": 5,
    "reductions": 2,
    "products": 2,
    "control": 1,
}
_CHOOSES = "sort topk kth median max min arg clamp where relu > hard shrink norm(p=1 pool".split()
"""Where inputs are equal, what these choose is not said."""


def generate(seed: int, values: str = "random") -> Program:
    """The program of a seed."""
    drawn = random.Random(seed)
    kind = drawn.choices(["jacobian", "hessian", "entries", "batch"], [6, 3, 1, 1])[0]
    count = 1 if kind == "batch" else drawn.choices([1, 2, 3], [6, 3, 1])[0]
    inputs = tuple(
        Input(
            f"x{k}",
            drawn.choices(SHAPES, _LIKELY)[0],
            drawn.choices(["plain", "transposed", "every second", "expanded"], [8, 1, 1, 1])[0],
        )
        for k in range(count)
    )
    dtype = drawn.choices(["float64", "float32"], [5, 1])[0]
    tree = drawn.choice(["tuple", "dict"])
    program = Program(seed, inputs, (), (), kind, dtype, tree, values)
    return _Writer(drawn, program).written(drawn.randint(2, 7))


class _Writer:
    """Runs each step on the numbers of the first point as soon as it is drawn."""

    def __init__(self, drawn: random.Random, program: Program) -> None:
        self.random, self.program = drawn, program
        self.space: dict[str, Any] = dict(program.function_space())
        self.tied = any(x.layout == "expanded" for x in program.inputs)
        first = program.point(0)
        rows = first if program.kind != "batch" else tuple(t[0] for t in first)
        self.floats = {x.name: t.clone() for x, t in zip(program.inputs, rows, strict=True)}

    def written(self, length: int) -> Program:
        steps: list[Step] = []
        while len(steps) < length:
            step = self._step(len(steps))
            if step is None:
                break
            steps.append(step)
        made = [name for step in steps for name in step.targets] or [x.name for x in self.program.inputs]
        used = {name for step in steps for name in step.operands}
        unused = [name for name in made if name not in used] or made[-1:]
        outputs = unused[-3:] if self.program.kind not in ("batch", "entries") else unused[-1:]
        return Program(
            **{**vars(self.program), "steps": tuple(steps), "outputs": tuple(outputs)}  # a dataclass's fields
        )

    def _step(self, number: int) -> Step | None:
        for _ in range(_TRIES * 5):
            kind = self.random.choices(list(_KINDS), list(_KINDS.values()))[0]
            text = self.random.choice(STEPS[kind])
            names = list(self.floats)
            first = self.random.choices(names, [k**2 for k in range(1, len(names) + 1)])[0]
            second = self._beside(first)
            drawn = parameters(self.random, self.floats[first])
            drawn |= {"0": "{0}", "1": "{1}", "out": "{out}", "more": "{more}"}
            for name, value in drawn.items():
                text = text.replace("{" + name + "}", str(value))
            targets = tuple(
                f"{letter}{number}" for letter, name in zip("vw", ("{out}", "{more}"), strict=True) if name in text
            )
            operands = (first, second) if "{1}" in text else (first,)
            step = Step(kind, text, operands, targets)
            if not self._is_unsaid(step) and self._runs(step):
                return step
        return None

    def _is_unsaid(self, step: Step) -> bool:
        """Whether PyTorch does not say what the result is, or (batched roll of a number) says it wrongly."""
        number = "roll" in step.text and self.floats[step.operands[0]].dim() == 0
        return number or (self.tied and any(word in step.text for word in _CHOOSES))

    def _beside(self, name: str) -> str:
        """Another operand, of the same shape more often than not."""
        shape = self.floats[name].shape
        alike = [other for other, t in self.floats.items() if t.shape == shape]
        return self.random.choice(alike if self.random.random() < 0.75 else list(self.floats))

    def _runs(self, step: Step) -> bool:
        kept = {name: t.clone() for name, t in self.floats.items()}  # f must not write to its inputs
        space = {**self.space, **self.floats}
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec("\n".join(step.lines()), space)
        except Exception:
            self.floats = kept
            return False
        made = [space[name] for name in step.targets]
        changed = any(self.floats[x.name]._version for x in self.program.inputs)
        if changed or not all(map(_fits, [*made, *self.floats.values()])):
            self.floats = kept
            return False
        self.floats |= dict(zip(step.targets, made, strict=True))
        return True


def _fits(t: Any) -> bool:
    if not isinstance(t, torch.Tensor) or not t.is_floating_point() or t.numel() > _LARGEST or t.dim() > _MOST_DIMS:
        return False
    return bool(t.isfinite().all()) and (t.numel() == 0 or float(t.abs().max()) < _BOUND)
