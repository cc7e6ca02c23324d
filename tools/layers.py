"""The table of layers in CONTRIBUTING.md, from the contract in pyproject.toml and the first sentence of each room.

python tools/layers.py    # after a change of either; a test holds that the table is up to date
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE, CONTRACT, SOURCE = ROOT / "CONTRIBUTING.md", ROOT / "pyproject.toml", ROOT / "src" / "torchjac"
_BLOCK = re.compile(r"(?<=<!-- layers: written by tools/layers.py -->\n).*(?=<!-- end of layers -->)", re.DOTALL)


def layers(contract: str) -> list[list[str]]:
    """The rooms of each layer, highest first, as the contract about the whole package lists them."""
    contracts = tomllib.loads(contract)["tool"]["importlinter"]["contracts"]
    (whole,) = (c for c in contracts if c.get("containers") == ["torchjac"])
    return [layer.split(" | ") for layer in whole["layers"]]


def sentence(room: str) -> str:
    """The first line of a room's docstring."""
    folder, file = SOURCE / room / "__init__.py", SOURCE / f"{room}.py"
    docstring = ast.get_docstring(ast.parse((folder if folder.exists() else file).read_text(encoding="utf-8")))
    assert docstring, f"the room {room} does not say what it is"
    return docstring.splitlines()[0].replace("``", "`").replace("|", r"\|")


def table(contract: str) -> str:
    """Markdown: a row for each room, numbered by its layer from the ground up."""
    floors = layers(contract)
    rows = [f"| {len(floors) - k} | `{room}` | {sentence(room)} |" for k, floor in enumerate(floors) for room in floor]
    return "\n".join(["", "| layer | room | what it is |", "|---|---|---|", *rows, "", ""])


def with_layers(page: str, contract: str) -> str:
    """The page with its table written anew."""
    assert _BLOCK.search(page), "CONTRIBUTING.md has lost the two comments around its table of layers"
    return _BLOCK.sub(lambda _: table(contract), page)


if __name__ == "__main__":
    text = with_layers(PAGE.read_text(encoding="utf-8"), CONTRACT.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")
