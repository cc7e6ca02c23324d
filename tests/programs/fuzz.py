"""Random programs by the thousand: ``python -m programs.fuzz COUNT SEED``, from the folder tests.

Programs run in a process of their own, piece by piece: one that ends the process is a fault like another.
"""

from __future__ import annotations

import argparse
import collections
import os
import resource
import subprocess
import sys
import time

from programs.generate import generate
from programs.shrink import as_test, shrunk
from programs.verdicts import judged

_PIECE, _MEMORY = 250, 12 * 10**9


def piece(first: int, count: int, values: str, quiet: bool) -> int:
    """Judge so many programs; prints the faults, each shrunk, and returns how many programs had some."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    bad, counts, refusals = 0, collections.Counter(), collections.Counter()
    for seed in range(first, first + count):
        print(f"seed {seed}", file=sys.stderr, flush=True)
        program = generate(seed, values)
        verdict = judged(program)
        counts["skipped" if verdict.skipped else program.kind] += 1
        refusals.update(" ".join(text.split(" at ")[0].split(":")[:1]) for text in verdict.refusals)
        bad += bool(verdict.faults)
        for fault in {fault.key: fault for fault in verdict.faults}.values():
            small = program
            if not quiet:
                small = shrunk(program, lambda p, key=fault.key: any(g.key == key for g in judged(p).faults))
            print(f"--- seed {seed}: {fault.mode}: {fault.kind}: {fault.text[:400]}\n{as_test(small, fault.mode)}")
    print(
        f"{count} programs from seed {first}: {bad} with faults; {dict(counts)}; refused {dict(refusals)}", flush=True
    )
    return bad


def main() -> int:
    """Run all pieces; 1 where a program has a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("seed", type=int, nargs="?", default=int(time.time()) // 86_400 * 100_000)
    parser.add_argument("--values", default="random", choices=["random", "hostile"])
    parser.add_argument("--piece", action="store_true", help="in this process")
    parser.add_argument("--quiet", action="store_true", help="do not shrink")
    given = parser.parse_args()
    if given.piece:
        return min(piece(given.seed, given.count, given.values, given.quiet), 1)
    failed = False
    for first in range(given.seed, given.seed + given.count, _PIECE):
        count = min(_PIECE, given.seed + given.count - first)
        options = ["--piece", "--values", given.values, *(["--quiet"] if given.quiet else [])]
        command = [sys.executable, "-m", "programs.fuzz", str(count), str(first), *options]
        run = subprocess.run(command, stderr=subprocess.PIPE, text=True, env=os.environ)
        failed = failed or run.returncode != 0
        if run.returncode not in (0, 1):
            last = [line for line in run.stderr.splitlines() if line.startswith("seed ")][-1:]
            print(f"--- the process ended with {run.returncode} at {last}\n{run.stderr[-2000:]}", flush=True)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
