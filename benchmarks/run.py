"""Run benchmarks: ``python benchmarks/run.py [names] [--json out.json] [--quick] [--threads K]``.

Every module beside this one with a ``main(quick: bool) -> dict`` is a benchmark; its name is the file's name.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import torchjac as tj

HERE = Path(__file__).resolve().parent
QUICK_HELP = "tiny sizes and few rounds: does it run, not how fast"


def discover() -> dict[str, Any]:
    """Modules of this folder that have a ``main``, by name."""
    names = sorted(path.stem for path in HERE.glob("*.py") if path.stem != "run")
    modules = {name: importlib.import_module(name) for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "main")}


def flat(result: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, dict[str, Any]]]:
    """Every dictionary in ``result`` that holds figures, with its path."""
    figures = {key: value for key, value in result.items() if not isinstance(value, dict)}
    rows = [(" / ".join(key for key in path if key != "times"), figures)] if figures else []
    for key, value in result.items():
        if isinstance(value, dict):
            rows += flat(value, (*path, key))
    return rows


def text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    sys.path.insert(0, str(HERE))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="benchmarks to run (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--quick", action="store_true", help=QUICK_HELP)
    parser.add_argument("--threads", type=int, metavar="K", help="that PyTorch may use")
    chosen = parser.parse_args()
    known = discover()
    if unknown := [name for name in chosen.names if name not in known]:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    if chosen.threads is not None:
        torch.set_num_threads(chosen.threads)
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
    versions = {"torchjac": tj.__version__, "torch": torch.__version__, "python": platform.python_version()}
    machine = {"threads": torch.get_num_threads(), "processor": platform.processor() or platform.machine()}
    report: dict[str, Any] = {"versions": versions, "machine": machine, "quick": chosen.quick, "results": {}}
    for name in chosen.names or known:
        start = time.perf_counter()
        result = known[name].main(chosen.quick)
        report["results"][name] = result
        print(f"\n{name}   {time.perf_counter() - start:.1f} s")
        for path, figures in flat(result):
            print(f"  {path:<60} {'  '.join(f'{key} {text(value)}' for key, value in figures.items())}", flush=True)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
