"""Count how often control moves from one file of torchjac to another: ``python tools/count_moves.py [--json]``.

With ``--src`` it counts in the torchjac of another checkout. A reader who follows a call has to open the next file at
each move. The trail of a call is the file of each 'call' and 'return' of a Python frame that ``sys.setprofile``
reports, where that file is in the package; frames of f, torch and numpy leave no mark on it. A move is where the trail
goes from one file to another: out by a call, or back by a return.

Plans are made once before one is counted, so that imports are left out; the call that is counted is a plan's third.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import groupby, pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]


def main(given: list[str] | None = None) -> None:
    """Print the moves of planning and of a warm call, for a Jacobian and a Hessian."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--src", type=Path, default=ROOT / "src", help="the folder that has the package torchjac")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    chosen = parser.parse_args(given)
    counts = {what: summary(trail) for what, trail in trails(chosen.src.resolve()).items()}
    print(json.dumps(counts, indent=1) if chosen.json else "\n\n".join(text(*count) for count in counts.items()))


def stencil(u: torch.Tensor) -> torch.Tensor:
    """Fisher's equation in one dimension: each output reads its input and the two beside it."""
    return 0.1 * (torch.roll(u, -1) - 2 * u + torch.roll(u, 1)) + u * (1 - u)


def chain(x: torch.Tensor) -> torch.Tensor:
    """Rosenbrock's function without its linear terms: each input meets the two beside it."""
    return ((x[1:] - x[:-1] ** 2) ** 2).sum()


def trails(src: Path) -> dict[str, list[str]]:
    """The trail of each thing that is counted, by the torchjac in ``src``."""
    sys.path.insert(0, str(src))
    tj = importlib.import_module("torchjac")
    package = Path(str(tj.__file__)).resolve().parent
    if package.parent != src:
        raise SystemExit(f"torchjac is that of {package.parent}, and not that of {src}")
    x, found = torch.linspace(0.1, 0.9, 50, dtype=torch.float64), {}
    for name, make, f in (("plan_jacobian", tj.plan_jacobian, stencil), ("plan_hessian", tj.plan_hessian, chain)):
        make(f, x)
        found[f"{name}(f, x)"] = trail(package, partial(make, f, x))
        plan = make(f, x)
        plan(x), plan(x)
        found[f"plan = {name}(f, x); plan(x)"] = trail(package, partial(plan, x))
    return found


def trail(package: Path, run: Callable[[], Any]) -> list[str]:
    """The files of ``package`` that control is in while ``run()`` runs, in order; no file follows itself."""
    seen: list[str] = []
    start, before = f"{package}/", sys.getprofile()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "return") and frame.f_code.co_filename.startswith(start):
            seen.append(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return [Path(file).relative_to(package).as_posix() for file, _ in groupby(seen)]


def summary(trail: list[str]) -> dict[str, Any]:
    """What is said of a trail: how often each file is entered, those that are entered most first."""
    entered = Counter(trail).most_common()
    return {"moves": sum(1 for _ in pairwise(trail)), "files": len(entered), "entered": dict(entered), "trail": trail}


def text(what: str, count: dict[str, Any]) -> str:
    """A summary to read; the trail itself is there for calls, and too long for planning."""
    lines = [f"{what}: {count['moves']:,} moves between {count['files']} files"]
    lines.append("  entered: " + ", ".join(f"{file} {times:,}" for file, times in count["entered"].items()))
    if "plan(x)" in what:
        lines.append("  trail: " + " > ".join(count["trail"]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
