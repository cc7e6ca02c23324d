"""``python -m torchjac demo``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m torchjac", description="Sparse Jacobians of PyTorch functions.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    demo = commands.add_parser("demo", help="what torchjac does, on a Brusselator and a bundle adjustment")
    demo.add_argument("--size", type=int, default=256, metavar="N", help="of the N x N grid (default: 256)")
    demo.add_argument("--data", type=Path, metavar="FILE", help="a real bundle adjustment too, in libmv's format")
    demo.add_argument("--picture", type=Path, default=Path("torchjac-demo.png"), metavar="PATH", help="PNG to write")
    demo.add_argument("--threads", type=int, metavar="K", help="that PyTorch may use (default: its own choice)")
    chosen = parser.parse_args(arguments)
    if chosen.size < 3:
        demo.error(f"--size {chosen.size}: a periodic five-point grid needs at least 3")
    if chosen.threads is not None and chosen.threads < 1:
        demo.error(f"--threads {chosen.threads}: at least 1")

    import torch

    from ._demo import demo as show

    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    try:
        show.run(chosen.size, chosen.data, chosen.picture)
    except (OSError, ValueError) as error:
        if chosen.data is None:
            raise
        demo.error(f"--data: {error}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
