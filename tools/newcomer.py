"""Be a newcomer: a fresh clone, an empty home, and the first pages followed to the letter.

    python tools/newcomer.py [--all] [page ...]

Every ``sh`` block of README.md and of the tutorial is run in the clone, and every ``python`` block in the environment
that these made; the blocks of a page share a namespace. What they print must be what the page says: text to the letter,
whole numbers exactly, decimals within a thousandth, times of any length. ``make test`` is left out unless ``--all`` is
given. Needs nothing but Python and git; the clone is of the last commit.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/tutorial.md")
LONG = ("make test",)  # CI runs it by itself
_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```[ ]*$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
_TIME = re.compile(r" (?:s|ms|us)\b")

# Runs in the newcomer's Python: executes the blocks given on stdin, answers with what each printed.
_RUNNER = """
import contextlib, io, json, sys
blocks, names, printed = json.load(sys.stdin), {"__name__": "__main__"}, []
for line, code in blocks:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile("\\n" * (line - 1) + code, sys.argv[1], "exec", dont_inherit=True), names)
    printed.append(out.getvalue())
json.dump(printed, sys.stdout)
"""


@dataclass(frozen=True)
class Block:
    """A block that a reader would type, and what the page says that it prints (None: not said)."""

    line: int
    language: str
    code: str
    printed: str | None


def blocks(text: str) -> Iterator[Block]:
    """The ``sh`` and ``python`` blocks of a page; a ``text`` block right after one is what it prints."""
    found = list(_FENCE.finditer(text))
    for block, after in zip(found, [*found[1:], None], strict=True):
        follows = after is not None and after[1] == "text" and not text[block.end() : after.start()].strip()
        if block[1] in ("sh", "python"):
            line = text.count("\n", 0, block.start(2)) + 1
            yield Block(line, block[1], block[2], after[2] if follows and after is not None else None)


def difference(printed: str, expected: str) -> str | None:
    """How what was printed differs from what the page says, or None."""
    if _NUMBER.sub("#", printed).split() != _NUMBER.sub("#", expected).split():
        return "the text differs"
    for here, there in zip(_NUMBER.finditer(printed), _NUMBER.finditer(expected), strict=True):
        timed = _TIME.match(printed, here.end()) and _TIME.match(expected, there.end())
        if not timed and not _same(here[0], there[0]):
            return f"{here[0]} instead of {there[0]}"
    return None


def _same(here: str, there: str) -> bool:
    if re.search("[.e]", here + there) is None:
        return here == there
    return math.isclose(float(here.replace(",", "")), float(there.replace(",", "")), rel_tol=1e-3, abs_tol=1e-12)


class Newcomer:
    """Somebody with a fresh clone and an empty home."""

    def __init__(self, folder: Path, source: Path = ROOT) -> None:
        self.clone, home = folder / "torchjac", folder / "home"
        home.mkdir()
        mine = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME", "TORCHJAC_DATA", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        kept = {name: value for name, value in os.environ.items() if name not in mine and not name.startswith("XDG_")}
        self.environment = kept | {"HOME": str(home), "PWD": str(self.clone)}
        subprocess.run(["git", "clone", "--quiet", source.as_uri(), str(self.clone)], check=True)

    def follow(self, page: str, leave_out: tuple[str, ...] = LONG) -> list[str]:
        """What went otherwise than the page says, one line each; ends at the first block that fails."""
        typed = list(blocks((self.clone / page).read_text(encoding="utf-8")))
        wrong = []
        for block in (block for block in typed if block.language == "sh"):
            for command in block.code.splitlines():
                command = command.split("#")[0].strip()
                if not command or command in leave_out:
                    continue
                start = time.perf_counter()
                done = self._run(["bash", "-c", command])
                print(f"  {command:<50} {time.perf_counter() - start:6.1f} s", flush=True)
                if done.returncode:
                    said = f"{command!r} ended with {done.returncode}\n{done.stdout}{done.stderr}"
                    return [*wrong, f"{page}, line {block.line}: {said}"]
                if block.printed is not None and (what := difference(done.stdout, block.printed)):
                    wrong.append(f"{page}, line {block.line}: {what}\n{done.stdout}")
        return wrong + self._python(page, [block for block in typed if block.language == "python"])

    def _python(self, page: str, typed: list[Block]) -> list[str]:
        with (
            tempfile.TemporaryDirectory() as elsewhere
        ):  # what a page writes does not stay, and the source is not beside it
            python = str(self.clone / ".venv" / "bin" / "python")
            given = json.dumps([(block.line, block.code) for block in typed])
            done = self._run([python, "-c", _RUNNER, page], cwd=Path(elsewhere), given=given)
        if done.returncode:
            return [f"{page}: a python block failed\n{done.stderr}"]
        wrong = []
        for block, printed in zip(typed, json.loads(done.stdout), strict=True):
            if what := difference(printed, block.printed or ""):
                wrong.append(f"{page}, line {block.line}: {what}; it printed\n{printed}")
        print(f"  {len(typed)} python blocks of {page}", flush=True)
        return wrong

    def _run(self, command: list[str], cwd: Path | None = None, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=cwd or self.clone,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )


def main() -> int:
    """The exit code: 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", default=PAGES, help=f"default: {' '.join(PAGES)}")
    parser.add_argument("--all", action="store_true", help=f"run {', '.join(LONG)} too")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="newcomer-"))
    try:
        newcomer = Newcomer(folder)
        wrong = []
        for page in chosen.pages:
            print(page, flush=True)
            wrong += newcomer.follow(page, () if chosen.all else LONG)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for text in wrong:
        print(text, file=sys.stderr)
    print("a newcomer gets what the pages say" if not wrong else f"{len(wrong)} things differ from the pages")
    return bool(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
