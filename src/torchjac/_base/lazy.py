"""Names that load their module when they are first used, so that ``import torchjac`` takes a millisecond."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path


def contents(package: str, file: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package whose stub, beside ``file``, imports its public names."""
    tree = ast.parse(Path(file).with_suffix(".pyi").read_text())
    homes = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, attribute = homes[name]
        found = importlib.import_module(f".{module or attribute}", package)
        value = getattr(found, attribute) if module else found
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *homes})
