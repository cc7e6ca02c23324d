"""What a bug report needs to say."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version


def package_version(name: str) -> str:
    """The installed version of a distribution, or "not installed"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def show_versions() -> None:
    """Print the versions that matter, for a bug report.

    >>> import torchjac as tj
    >>> tj.show_versions()  # doctest: +ELLIPSIS
    torchjac ...
    """
    import torch

    names = ("torchjac", "torch", "numpy", "scipy", "numba", "matplotlib")
    rows = [(name, package_version(name)) for name in names]
    rows += [("python", sys.version.split()[0]), ("platform", platform.platform())]
    rows.append(("cuda", torch.cuda.get_device_name() if torch.cuda.is_available() else "none"))
    print("\n".join(f"{name:<10} {value}" for name, value in rows))
