"""The page for contributors names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import layers

    return layers


@pytest.fixture
def page(tool):
    return tool.PAGE.read_text(encoding="utf-8")


def test_the_table_of_layers_is_that_of_the_contract(tool, page):
    assert page == tool.with_layers(page, tool.CONTRACT.read_text(encoding="utf-8")), "run `python tools/layers.py`"


def test_rooms_are_numbered_from_the_ground_up(tool):
    contract = '[[tool.importlinter.contracts]]\ncontainers = ["torchjac"]\nlayers = ["cli | scipy", "_plan", "_base"]'
    rows = [row.split(" | ")[:2] for row in tool.table(contract).splitlines()[3:] if row]
    assert rows == [["| 3", "`cli`"], ["| 3", "`scipy`"], ["| 2", "`_plan`"], ["| 1", "`_base`"]]


def test_every_file_that_the_page_names_is_there(tool, page):
    table = page.split("## I want to change")[1].split("\n## ")[0]
    named = re.findall(r"`([a-z_]\w*(?:/\w+)*(?:/|\.pyi?))`", table)
    assert len(named) > 30
    assert [name for name in named if not (tool.SOURCE / name).exists()] == []


def test_every_room_of_the_picture_is_one_of_the_contract(tool, page):
    picture = page.split("```mermaid\n")[1].split("```")[0]
    rooms = {room for layer in tool.layers(tool.CONTRACT.read_text(encoding="utf-8")) for room in layer}
    drawn = set(re.findall(r'"(_\w+)', picture))
    assert {"_tangent", "_detection", "_coloring", "_products", "_accumulation", "_verification"} <= drawn <= rooms
