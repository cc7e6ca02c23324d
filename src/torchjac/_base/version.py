"""The version of torchjac, and the versions of everything it runs on, for a bug report."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version


def _installed_version(name: str, otherwise: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return otherwise


__version__ = _installed_version("torchjac", otherwise="0+unknown")  # unknown in a source tree that is not installed


def show_versions() -> None:
    """Print the versions that matter, for a bug report.

    >>> import torchjac as tj
    >>> tj.show_versions()  # doctest: +ELLIPSIS
    torchjac ...
    """
    import torch

    names = ("torchjac", "torch", "numpy", "scipy", "numba", "matplotlib")
    rows = [(name, _installed_version(name, otherwise="not installed")) for name in names]
    rows += [("python", sys.version.split()[0]), ("platform", platform.platform())]
    rows.append(("cuda", torch.cuda.get_device_name() if torch.cuda.is_available() else "none"))
    print("\n".join(f"{name:<10} {value}" for name, value in rows))
