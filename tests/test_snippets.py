"""Every example that a reader may copy runs: README, CONTRIBUTING, docs and docstrings.

The ```python blocks of one file share a namespace and run in order, as a reader would type them. A ```text block right
after one is what it prints; decimals and white space may differ. Docstrings may use ``>>>`` as well; each runs alone.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import torchjac as tj

ROOT = Path(__file__).resolve().parent.parent
PAGES = [p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))) if p.exists()]
EXTRAS = {"matplotlib", "rich", "typer", "zarr"}
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL)


class Snippet(NamedTuple):
    line: int  # of its first line, from 1
    code: str
    printed: str | None


def snippets(text: str) -> Iterator[Snippet]:
    blocks = list(FENCE.finditer(text))
    for block, after in zip_longest(blocks, blocks[1:]):
        info, line = block["info"].strip(), text.count("\n", 0, block.start("body")) + 1
        language = re.split(r"\W", info, maxsplit=1)[0].lower()
        if language not in {"python", "py", "python3", "pycon"}:
            continue
        assert info == "python", f"line {line - 1}: every snippet runs, so write ```python and not ```{info}"
        follows = after and after["info"].strip() == "text" and not text[block.end() : after.start()].strip()
        yield Snippet(line, body(block), body(after) if after and follows else None)


def body(block: re.Match[str]) -> str:
    return re.sub(rf"^{block['indent']}", "", block["body"], flags=re.MULTILINE)


def alike(printed: str) -> str:
    return " ".join(re.sub(r"\d+\.\d+", "#", printed).split())


def run(text: str, where: Path | str) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for snippet in snippets(text):
        lines = "\n" * (snippet.line - 1) + snippet.code  # so that a traceback shows the lines of the page
        code = compile(lines, str(where), "exec", dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, namespace)
        if snippet.printed is not None:
            assert alike(out.getvalue()) == alike(snippet.printed), f"{where}, line {snippet.line}, prints otherwise"


def public(module: str, name: str) -> bool:
    """Whether a dotted name in a module is that of something exported, or of a part of it, or of a public module."""
    owner = name.removeprefix(f"{module}.").split(".")[0]
    inside = module.split(".")[1:]
    return owner in dir(tj) or (inside != [] and inside[0] != "cli" and not inside[0].startswith("_"))


def docstrings() -> Iterator[doctest.DocTest]:
    for name in ["torchjac", *sorted(m.name for m in pkgutil.walk_packages(tj.__path__, "torchjac."))]:
        if name.endswith("__main__"):
            continue
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name in EXTRAS:
                continue
            raise
        # examples of what is exported stand alone; those of the inside may use the names of their file
        found = doctest.DocTestFinder().find(module, globs={"__name__": "__main__"})
        for test in found:
            if not public(name, test.name):
                test.globs.update(vars(module))
        yield from (test for test in found if test.examples or "```" in (test.docstring or ""))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what a snippet writes does not stay
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path) -> None:
    run(page.read_text(encoding="utf-8"), page)


@pytest.mark.parametrize("example", list(docstrings()), ids=lambda example: example.name)
def test_docstring(example: doctest.DocTest) -> None:
    run(example.docstring, f"<docstring of {example.name}>")
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(example, out=report.append)
    assert not report, "".join(report)


def test_blocks_share_a_namespace_and_decimals_may_differ() -> None:
    run("```python\nx = 1\n```\n- so\n  ```python\n  print(x, 0.25)\n  ```\n\n  ```text\n  1   0.31\n  ```\n", "page")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python no-run\nx\n```\n", "line 1: every snippet runs"),
        ("```python\nprint(2)\n```\n```text\n3\n```\n", "line 2, prints otherwise"),
    ],
)
def test_a_wrong_page_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        run(text, "page")
