"""The command line: look before you compute.

Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 asked for wrongly,
130 interrupted. Files are written beside their place and moved to it when they are complete.
"""

from __future__ import annotations

import importlib.util
import json
import linecache
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from .._base.errors import OptionError, TorchjacError
from .._base.files import replacing
from .._base.memory import parse_bytes
from .._base.user_frame import is_users
from .._base.version import __version__
from .._base.words import Mode, choose
from .._function.flat import ordinary
from .._matrices.drawing import no_matplotlib
from .._plan.jacobian import JacobianPlan
from .._plan.report.page import costs_of, write_report
from .._plan.report.summary import UnitCosts, measure, summarize, with_colors
from .._plan.verbs import plan_hessian, plan_jacobian
from . import compare as compare_module
from .tables import console, inspection, race
from .target import FILLS, CommandError, Target, target

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Jacobians and Hessians of PyTorch functions: what they look like, and what they cost.",
)

_PICTURES = (".png", ".svg", ".pdf", ".html")

TargetArgument = Annotated[str, typer.Argument(metavar="TARGET", help="module:function, or file.py:function")]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input", "-i", metavar="NAME:DTYPE[SHAPE]", help='an argument, as "x:float64[2,64]"; may be repeated'
    ),
]
InitOption = Annotated[
    str, typer.Option("--init", metavar="HOW", help=f"{', '.join(FILLS)}, or a .pt, .npz or .safetensors file")
]
WrtOption = Annotated[str | None, typer.Option("--wrt", metavar="NAMES", help="differentiate by these: x,y")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, ...")]
DebugOption = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of tables")]


@app.callback(invoke_without_command=True)
def start(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    """Jacobians and Hessians of PyTorch functions: what they look like, and what they cost."""
    if version:
        print(f"torchjac {__version__}")
        raise typer.Exit


@app.command()
def demo(
    size: Annotated[int, typer.Option("--size", metavar="N", help="of the N x N grid")] = 256,
    data: Annotated[Path | None, typer.Option("--data", help="a real bundle adjustment too, in libmv's format")] = None,
    picture: Annotated[Path, typer.Option("--picture", help="PNG to write")] = Path("torchjac-demo.png"),
    threads: Annotated[int | None, typer.Option("--threads", metavar="K", help="that PyTorch may use")] = None,
    debug: DebugOption = False,
) -> None:
    """What torchjac does, on a Brusselator and a bundle adjustment."""
    from .demo import demo as show

    with _failing_well(debug):
        if size < 3:
            raise CommandError(f"--size {size}: a periodic five-point grid needs at least 3")
        if threads is not None:
            if threads < 1:
                raise CommandError(f"--threads {threads}: at least 1")
            torch.set_num_threads(threads)
        try:
            show.run(size, data, picture)
        except (OSError, ValueError) as error:
            if data is None:
                raise
            raise CommandError(f"--data: {error}") from error


@app.command()
def inspect(
    name: TargetArgument,
    inputs: InputOption = None,
    init: InitOption = "random",
    wrt: WrtOption = None,
    hessian: Annotated[bool, typer.Option("--hessian", help="the Hessian of a function with one number out")] = False,
    mode: Annotated[str, typer.Option("--mode", help="auto, forward, reverse, bidirectional or accumulate")] = "auto",
    memory: Annotated[str | None, typer.Option("--memory", help='that a call may take, as "500MiB"')] = None,
    device: DeviceOption = "cpu",
    save: Annotated[
        Path | None, typer.Option("--save", metavar="PLAN.npz", help="keep the plan, for load_plan")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="a .png, .svg, .pdf or .html")] = None,
    lines: Annotated[int, typer.Option("--lines", min=0, help="how many source lines to name")] = 10,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Pattern, colors, strategies with predicted time and memory, and the lines that cost most."""
    with _failing_well(debug):
        _check_files(save, plot)
        choose("mode", mode, Mode)
        if memory is not None:
            parse_bytes(memory)
        what = target(name, inputs or [], init, device, wrt)
        plan = _plan(what, hessian, {"mode": mode, "memory": memory})
        with ordinary(what.args) as own:
            units = measure(plan.prepared.goal.function, own)
        facts = with_colors(plan.facts())
        summary = summarize(facts, costs_of(plan.pattern), units)
        summary["target"] = name
        if as_json:
            print(json.dumps(summary, indent=2))
        else:
            console().print(inspection(name, summary, plan.pattern, lines))
        if save is not None:
            plan.save(save)
            _say(f"plan      {save}")
        if plot is not None:
            _draw(plan, plot, units)
            _say(f"picture   {plot}")


@app.command()
def compare(
    name: TargetArgument,
    inputs: InputOption = None,
    init: InitOption = "random",
    wrt: WrtOption = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="that each way may take")] = 30.0,
    memory: Annotated[str, typer.Option("--memory", help="that each way may take")] = "4GiB",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="that PyTorch may use")] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Time torchjac, jacfwd, jacrev and functional.jacobian on a function, each in a process of its own."""
    with _failing_well(debug):
        budget = parse_bytes(memory)
        target(name, inputs or [], init, device, wrt)  # what is wrong with it is said here, once
        results = []
        for way in compare_module.WAYS:
            job = compare_module.Job(
                way, name, inputs or [], init, device, wrt, seconds, budget, threads or torch.get_num_threads()
            )
            results.append(compare_module.run(job))
        right = _judge(results)
        if as_json:
            print(json.dumps({"target": name, "ways": results}, indent=2))
        else:
            console().print(race(name, results))
        if not right:
            raise typer.Exit(1)


def _judge(results: list[dict[str, Any]]) -> bool:
    """Compare the products of each way with ours: whether there is ours, and all that finished agree."""
    products = [result.pop("product", None) for result in results]
    ours, right = products[0], "error" not in results[0]
    for result, other in zip(results[1:], products[1:], strict=True):
        if right and "error" not in result:
            scale = max(float(np.abs(other).max(initial=0)), 1e-300)
            off = float(np.abs(ours - other).max(initial=0)) / scale if ours.shape == other.shape else np.inf
            result["difference"] = off
            result["verdict"] = f"agrees to {off:.0e}" if off < 1e-3 else f"differs by {off:.0e}"
    return right and all(result.get("difference", 0.0) < 1e-3 for result in results)


def _plan(what: Target, hessian: bool, options: Any) -> JacobianPlan:
    make = plan_hessian if hessian else plan_jacobian
    return make(what.f, *what.args, argnums=what.argnums, ravel=True, layout=torch.sparse_csr, progress=True, **options)


def _check_files(save: Path | None, plot: Path | None) -> None:
    """Say what cannot be written before anything takes time."""
    if save is not None and save.suffix != ".npz":
        raise CommandError(f"--save {save}", expected="a file that ends with .npz")
    if plot is not None and plot.suffix not in _PICTURES:
        raise CommandError(f"--plot {plot}", expected=f"a file that ends with one of {', '.join(_PICTURES)}")
    for path in (save, plot):
        if path is not None and not path.parent.is_dir():
            raise CommandError(f"there is no folder {path.parent}", expected="one that exists, to write to")
    if plot is not None and plot.suffix != ".html" and importlib.util.find_spec("matplotlib") is None:
        raise no_matplotlib()


def _draw(plan: JacobianPlan, path: Path, units: UnitCosts) -> None:
    if path.suffix == ".html":
        write_report(path, plan.facts(), units)
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 7), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    plan.plot(figure.subplots())
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:])


_FOR_DEVELOPERS = (
    DeprecationWarning,
    PendingDeprecationWarning,
    FutureWarning,
)  # of PyTorch itself, about its own calls


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@contextmanager
def _failing_well(debug: bool) -> Iterator[None]:
    """Errors as text on standard error and an exit code; with ``debug`` the traceback too."""
    shown = warnings.showwarning

    def say(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        if debug or not issubclass(category, _FOR_DEVELOPERS):
            _say(f"warning: {message}")

    warnings.showwarning = say
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):  # the last: who reads has seen enough
        raise
    except KeyboardInterrupt:
        _say("torchjac: interrupted; no file was left half written")
        raise typer.Exit(130) from None
    except Exception as error:  # whatever the function of the user raises, too
        if debug:
            traceback.print_exc()
        _say(f"torchjac: {_words(error)}")
        raise typer.Exit(2 if isinstance(error, (CommandError, OptionError)) else 1) from None
    finally:
        warnings.showwarning = shown


def _words(error: Exception) -> str:
    if isinstance(error, TorchjacError):
        return str(error)
    if isinstance(error, OSError):
        return str(error)
    line = _line_of(error)
    said = f"{type(error).__name__}: {error}" + (f"\n  at: {line}" if line else "")
    return f"{said}\n  write instead: the same with --debug, for the traceback"


def _line_of(error: Exception) -> str:
    """The innermost line of the user's code."""
    steps = traceback.walk_tb(error.__traceback__)
    theirs = [(frame.f_code.co_filename, number) for frame, number in steps if is_users(frame)]
    if not theirs:
        return ""
    file, number = theirs[-1]
    return f"{file}:{number}: {linecache.getline(file, number).strip()}"
