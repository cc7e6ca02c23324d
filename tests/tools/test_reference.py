"""The reference has every public name, as Markdown."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import torchjac as tj

pytest.importorskip("mkdocs", reason="the site needs the extra `docs`")
TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import reference

    return reference


def test_every_public_name_has_its_place():
    # in a process that has used no name yet, as the one that builds the site
    code = (
        f"import sys, json; sys.path.insert(0, {str(TOOLS)!r}); import reference; print(json.dumps(reference.pages()))"
    )
    pages = json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    public = [name for name in dir(tj) if name[0] != "_" and not inspect.ismodule(getattr(tj, name))]
    assert len(public) > 30
    headings = [line.removeprefix("## ") for page in pages.values() for line in page.splitlines() if line[:3] == "## "]
    assert set(public) <= set(headings)
    assert "### least_squares" in pages["modules"]
    assert "### Mix" in pages["modules"]
    assert "0x" not in "".join(pages.values())


def test_a_docstring_becomes_markdown(tool):
    text = """Add ``a`` and b.

    >>> 1 + 1
    2

    That is all.

    Parameters
    ----------
    a: the first,
        a number.
    b, c: others.

    Notes
    -----
    Nothing.
    """
    assert tool.markdown(text).split("\n") == [
        *["Add `a` and b.", "", "", "~~~pycon", ">>> 1 + 1", "2", "~~~", "", "That is all.", ""],
        *["**Parameters**", "", "- `a`: the first,", "    a number.", "- `b, c`: others.", ""],
        *["**Notes**", "", "Nothing."],
    ]
