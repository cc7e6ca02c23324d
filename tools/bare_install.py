"""For an environment with the wheel of torchjac and nothing else: it works, and says what to install for the rest."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import metadata, version
from pathlib import Path

import torch

import torchjac as tj

OPTIONAL = ("matplotlib", "mkdocs", "pytest", "rich", "typer", "zarr")


def main() -> None:
    present = [name for name in OPTIONAL if importlib.util.find_spec(name)]
    assert not present, f"not an empty environment: {present}"
    package = Path(tj.__file__).parent
    assert "site-packages" in package.parts, f"not the installed wheel: {package}"
    for file in ("py.typed", "__init__.pyi", "report.html"):
        assert (package / file).is_file(), f"{file} is not in the wheel"
    assert tj.__version__ == version("torchjac"), tj.__version__
    x = torch.rand(100, dtype=torch.float64)
    J = tj.jacobian(lambda x: x[1:] * x[:-1], x, layout=torch.sparse_csr)
    assert J.values().numel() == 198
    refusal("zarr", lambda: tj.write_jacobian(torch.cumsum, x, 0, path="J.zarr"))
    refusal("plot", tj.jacobian_sparsity(torch.sin, x).plot)
    refusal("cli", command_line)
    extras = set(metadata("torchjac").get_all("Provides-Extra") or [])
    assert {"plot", "zarr", "cli"} <= extras, extras
    print(f"torchjac {tj.__version__} works with torch {torch.__version__} alone")


def command_line() -> None:
    from torchjac.__main__ import main as command

    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = command()
    assert code == 1, code
    raise RuntimeError(said.getvalue())


def refusal(extra: str, use: Callable[[], object]) -> None:
    """What needs an extra says the line that installs it."""
    line = f"pip install 'torchjac[{extra}]'"
    try:
        use()
    except Exception as error:  # of whatever type: the line is what counts
        said = str(error)
    else:
        said = "nothing was refused"
    assert line in said, f"{extra}: no {line!r} in: {said}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        main()
