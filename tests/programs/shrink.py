"""The shortest program that still goes wrong in the same way: steps, outputs and inputs are left out while it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from programs.program import Program

_MOST = 400  # programs tried


def shrunk(program: Program, fails: Callable[[Program], bool]) -> Program:
    """``fails`` is asked of each candidate; the first shorter one that does goes on."""
    tried = 0
    while tried < _MOST:
        for candidate in _shorter(program):
            tried += 1
            if fails(candidate):
                program = candidate
                break
        else:
            return program
    return program


def _shorter(program: Program) -> Iterator[Program]:
    for k, name in enumerate(program.outputs):
        if len(program.outputs) > 1:
            yield _tidy(replace(program, outputs=program.outputs[:k] + program.outputs[k + 1 :]))
            yield _tidy(replace(program, outputs=(name,)))
    for k in reversed(range(len(program.steps))):
        step = program.steps[k]
        rest = program.steps[:k] + program.steps[k + 1 :]
        if not step.targets:
            yield replace(program, steps=rest)
        for operand in dict.fromkeys(step.operands):
            steps, outputs = rest, program.outputs
            for target in step.targets:
                steps = tuple(s.renamed(target, operand) for s in steps)
                outputs = tuple(operand if name == target else name for name in outputs)
            yield _tidy(replace(program, steps=steps, outputs=outputs))
    for k, step in enumerate(program.steps):
        for other in [x.name for x in program.inputs]:
            for operand in dict.fromkeys(step.operands):
                if operand != other and not operand.startswith("x"):
                    steps = (*program.steps[:k], step.renamed(operand, other), *program.steps[k + 1 :])
                    yield _tidy(replace(program, steps=steps))
    for kind in ("jacobian",):
        if program.kind not in (kind, "hessian", "batch"):
            yield replace(program, kind=kind)
    for k, x in enumerate(program.inputs):
        if x.layout != "plain":
            inputs = (*program.inputs[:k], replace(x, layout="plain"), *program.inputs[k + 1 :])
            yield replace(program, inputs=inputs)
    if program.dtype != "float64":
        yield replace(program, dtype="float64")
    if program.tree != "tuple":
        yield replace(program, tree="tuple")


def _tidy(program: Program) -> Program:
    """Without steps whose results nobody reads, and inputs that nobody reads but the first."""
    needed, kept = set(program.outputs), []
    for step in reversed(program.steps):
        if not step.targets or needed.intersection(step.targets):
            kept.append(step)
            needed.update(step.operands)
    inputs = tuple(x for x in program.inputs if x.name in needed) or program.inputs[:1]
    return replace(program, steps=tuple(reversed(kept)), inputs=inputs)


def as_test(program: Program, modes: str) -> str:
    """A test to paste."""
    source = "\n".join("    " + line for line in program.source().splitlines())
    inputs = "\n".join(f"    # {x.name}: {list(x.shape)}, {x.layout}" for x in program.inputs)
    point = "\n".join(
        f"    {x.name} = torch.tensor({t.tolist()}, dtype=torch.{program.dtype}).reshape({list(t.shape)})"
        for x, t in zip(program.inputs, program.point(0), strict=True)
    )
    names = ", ".join(x.name for x in program.inputs)
    call = {
        "hessian": f"tj.plan_hessian(f, {names}, argnums={program.argnums}, mode=mode)({names})",
        "batch": f"tj.batch_jacobian(f, {names}, mode=mode)",
    }.get(program.kind, f"tj.plan_jacobian(f, {names}, argnums={program.argnums}, mode=mode)({names})")
    return (
        f"def test_program_{program.seed}():  # {modes}; {program.kind}\n{source}\n{inputs}\n{point}\n    J = {call}\n"
    )
