"""The entry point of the command line, ``torchjac`` or ``python -m torchjac``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line, and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        from .cli.commands import app
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in {"typer", "rich"}:
            raise
        print(f"torchjac: the command line needs {missing}; pip install 'torchjac[cli]'", file=sys.stderr)
        return 1
    app(prog_name="torchjac")  # raises SystemExit
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
