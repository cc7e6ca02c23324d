"""300 random programs a day, in every mode; a failure is shrunk and printed as a test to paste into test_found.py."""

from __future__ import annotations

import os

import pytest
import torch
from programs.generate import generate
from programs.program import Input, Program, Step
from programs.shrink import as_test, shrunk
from programs.verdicts import MODES, judged

SEED = int(os.environ["TORCHJAC_PROGRAMS_SEED"])  # of today, see conftest.py
PIECES, EACH = 30, 10


def modes_of(seed: int) -> tuple[str, ...]:
    """Two of the modes: the next seeds have the others."""
    return MODES[seed % 4], MODES[(seed + 1 + seed // 4 % 3) % 4]


def report(program: Program, modes: tuple[str, ...] = MODES, **options) -> str:
    """The faults of a program, each shrunk; empty where it has none."""
    faults = {fault.key: fault for fault in judged(program, modes, **options).faults}
    found = []
    for key, fault in faults.items():
        small = shrunk(program, lambda p, key=key: any(g.key == key for g in judged(p, modes, **options).faults))
        found.append(f"{fault.mode}: {fault.kind}: {fault.text[:500]}\n{as_test(small, fault.mode)}")
    return "\n".join(found)


@pytest.mark.parametrize("first", range(SEED, SEED + PIECES * EACH, EACH))
def test_random_programs_are_right_or_refused(first):
    for seed in range(first, first + EACH):
        found = report(generate(seed), modes_of(seed))
        assert not found, f"TORCHJAC_PROGRAMS_SEED={seed}\n{found}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEED, SEED + 3))
def test_random_programs_compiled(seed):
    found = report(generate(seed), ("auto", "accumulate"), compile=True)
    assert not found, f"TORCHJAC_PROGRAMS_SEED={seed}\n{found}"


def test_a_seed_makes_the_same_program_each_time():
    assert generate(7) == generate(7)
    assert generate(7).source() == generate(7).source()


def test_most_programs_are_judged_and_all_kinds_of_step_occur():
    programs = [generate(seed) for seed in range(SEED, SEED + 200)]
    assert {step.op for program in programs for step in program.steps} == {
        *("views moves gathers writes pointwise reductions products control".split())
    }
    assert {program.kind for program in programs} == {"jacobian", "hessian", "entries", "batch"}


def test_a_fault_is_shrunk_to_the_step_that_has_it():
    steps = (
        Step("pointwise", "{out} = {0}.sin()", ("x0",), ("v0",)),
        Step("pointwise", "{out} = {0} * {1}", ("v0", "x1"), ("v1",)),
        Step("moves", "{out} = {0}.flip(0)", ("v1",), ("v2",)),
        Step("pointwise", "{out} = {0} + {1}", ("v2", "v0"), ("v3",)),
    )
    program = Program(1, (Input("x0", (3,), "transposed"), Input("x1", (3,))), steps, ("v3", "v1"))
    small = shrunk(program, lambda p: "flip" in p.source())
    assert small.source() == "def f(x0):\n    v2 = x0.flip(0)\n    return v2\n"
    assert small.inputs == (Input("x0", (3,)),)
    space: dict = {}
    exec("import torch, torchjac as tj\nmode = 'auto'\n" + as_test(small, "auto") + "    return J\n", space)
    assert torch.equal(space["test_program_1"]()[0], torch.eye(3, dtype=torch.float64).flip(0))


def test_wrong_values_and_lost_entries_and_exceptions_are_faults(monkeypatch):
    program = Program(1, (Input("x0", (3,)),), (Step("pointwise", "{out} = {0}.sin()", ("x0",), ("v0",)),), ("v0",))
    assert judged(program).faults == []
    monkeypatch.setattr("programs.verdicts._oracle", lambda *_: torch.ones(3, 3, dtype=torch.float64))
    keys = {fault.key for fault in judged(program).faults}
    assert {("detection", "unsound"), ("auto", "wrong"), ("accumulate reverse", "wrong")} <= keys
    monkeypatch.setattr("programs.verdicts.build", lambda *_: 1 / 0)
    assert ("accumulate forward", "ZeroDivisionError") in {fault.key for fault in judged(program).faults}
