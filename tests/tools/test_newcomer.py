"""The newcomer notices what differs from a page, and lets pass what may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import newcomer

    return newcomer


@pytest.mark.parametrize(
    ("printed", "page"),
    [
        ("3 products\n", "3 products"),
        ("1.00004 of 2", "1.0 of 2"),
        ("detected in 0.9620 s, 3 colors", "detected in 0.0040 s, 3 colors"),
        ("9,000 entries  (0.1% dense)", "9,000 entries (0.1% dense)"),
        ("-2.5e-07", "-2.5001e-07"),
    ],
)
def test_what_may_differ(tool, printed, page):
    assert tool.difference(printed, page) is None


@pytest.mark.parametrize(
    ("printed", "page"),
    [
        ("4 products", "3 products"),
        ("3 products", "3 colors"),
        ("1.01", "1.0"),
        ("9,001 entries", "9,000 entries"),
        ("2.5", "-2.5"),
        ("", "something"),
        ("something", ""),
    ],
)
def test_what_must_not(tool, printed, page):
    assert tool.difference(printed, page)


def test_a_page_is_read_as_a_reader_types_it(tool):
    text = "```sh\nmake demo\n```\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n```json\n{}\n```\n"
    shell, python = tool.blocks(text)
    assert (shell.language, shell.code, shell.printed) == ("sh", "make demo\n", None)
    assert (python.line, python.code, python.printed) == (6, "print(1)\n", "1\n")


@pytest.fixture
def repository(tmp_path):
    """One page, and an environment that is made by its first command."""
    folder = tmp_path / "repository"
    folder.mkdir()

    def write(page: str) -> Path:
        (folder / "README.md").write_text(page)
        git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", "a page"], check=True)
        return folder

    return write


SETUP = f"```sh\nmkdir -p .venv/bin\nln -s {sys.executable} .venv/bin/python\nmake test\n```\n"


def test_pages_are_followed_in_a_clone_with_an_empty_home(tool, repository, tmp_path, capsys):
    code = 'import os\nprint(sorted(os.listdir(os.environ["HOME"])), os.listdir())\n'
    page = f"{SETUP}```python\n{code}```\n```text\n[] []\n```\n"
    newcomer = tool.Newcomer(tmp_path, repository(page))
    assert newcomer.follow("README.md") == []
    assert (newcomer.clone / ".git").is_dir()
    assert "1 python blocks of README.md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (SETUP + "```python\nprint(2)\n```\n```text\n3\n```\n", "line 7: 2 instead of 3"),
        (SETUP + "```python\nprint(2)\n```\n", "line 7: the text differs"),
        (SETUP + "```python\n1 / 0\n```\n", "ZeroDivisionError"),
        ("```sh\nfalse\n```\n", "line 2: 'false' ended with 1"),
        ("```sh\necho 1\n```\n```text\n2\n```\n" + SETUP, "line 2: 1 instead of 2"),
    ],
)
def test_what_differs_is_told(tool, repository, tmp_path, page, complaint):
    wrong = tool.Newcomer(tmp_path, repository(page)).follow("README.md")
    assert complaint in wrong[0]


def test_the_pages_are_there_and_have_something_to_follow(tool):
    for page in tool.PAGES:
        kinds = {block.language for block in tool.blocks((tool.ROOT / page).read_text())}
        assert kinds == {"sh", "python"}, page
