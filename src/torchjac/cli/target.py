"""The target of a command: a function named by text, and the inputs to look at it with."""

from __future__ import annotations

import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from .._base.errors import TorchjacError
from .._base.words import Args, UserFunction
from .tensor_files import ReadError, read_arrays

FILLS = ("random", "ones", "zeros")
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex128, torch.complex64),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    )
}
_TENSOR = re.compile(r"(?:(?P<name>\w+):)?(?P<dtype>[a-z]+\d*)\[(?P<shape>[\d, ]*)\](?:<(?P<bound>\d+))?$")


class CommandError(TorchjacError):
    """The command line cannot be followed as it is written: exit code 2."""


@dataclass(frozen=True)
class Input:
    """One argument: a tensor of a shape and dtype to fill, or a plain value. ``bound``: integers stay below it."""

    name: str | None
    shape: tuple[int, ...] = ()
    dtype: torch.dtype | None = None
    bound: int | None = None
    value: object = None

    @classmethod
    def parse(cls, text: str) -> Input:
        """Read ``name:dtype[shape]``, ``name:int64[shape]<bound`` or ``name:value``; names may be left out.

        >>> Input.parse("x:float64[2,64]")
        Input(name='x', shape=(2, 64), dtype=torch.float64, bound=None, value=None)
        """
        found = _TENSOR.match(text.strip())
        if found and found["dtype"] in _DTYPES:
            shape = tuple(int(size) for size in found["shape"].split(",") if size.strip())
            bound = None if found["bound"] is None else int(found["bound"])
            return cls(found["name"], shape, _DTYPES[found["dtype"]], bound)
        name, colon, value = text.partition(":")
        try:
            plain = ast.literal_eval(value if colon else text)
        except (ValueError, SyntaxError) as error:
            raise CommandError(
                f"--input {text!r}",
                expected="NAME:DTYPE[SHAPE], with a dtype of " + ", ".join(_DTYPES) + ", or NAME:VALUE",
                instead='--input "x:float64[2,64,64]", or "k:3" for a number, or "i:int64[10]<5" for indices below 5',
            ) from error
        return cls(name.strip() if colon else None, value=plain)

    def fill(self, how: str, generator: torch.Generator) -> object:
        """Return the argument: a tensor filled as ``how`` says, or the plain value."""
        if self.dtype is None:
            return self.value
        if how != "random":
            return torch.full(self.shape, float(how == "ones")).to(self.dtype)
        if self.dtype is torch.bool:
            return torch.rand(self.shape, generator=generator) < 0.5
        if self.dtype.is_floating_point or self.dtype.is_complex:
            drawn = torch.complex128 if self.dtype.is_complex else torch.float64
            return torch.rand(self.shape, generator=generator, dtype=drawn).to(self.dtype)
        if not self.bound:
            raise CommandError(
                f"random integers for {self.name or 'an input'} without a bound",
                expected="the number that they stay below",
                instead=f'--input "{self.name or "i"}:int64{list(self.shape)}<10"',
            )
        return torch.randint(self.bound, self.shape, generator=generator).to(self.dtype)


@dataclass(frozen=True)
class Target:
    """A function, its arguments, and which of them count as inputs of the Jacobian."""

    f: UserFunction
    args: Args
    argnums: tuple[int, ...]


def target(name: str, inputs: Sequence[str], init: str, device: str = "cpu", wrt: str | None = None) -> Target:
    """Return ``module:function`` or ``file.py:function`` with arguments filled as ``init`` says.

    Raises
    ------
    CommandError: there is no such function, or it does not take such inputs.
    """
    f = load(name)
    specs = [Input.parse(text) for text in inputs]
    stored = {} if init in FILLS else _stored(init)
    module = f if isinstance(f, torch.nn.Module) else None
    signature = inspect.signature(module.forward if module is not None else f)
    arguments, filled = _named(specs, signature), "random" if stored else init
    generator = torch.Generator().manual_seed(0)
    values = {key: spec.fill(filled, generator) if key not in stored else None for key, spec in arguments.items()}
    values |= _from_file(stored, arguments, signature, module)
    values = {key: v.to(device) if isinstance(v, torch.Tensor) else v for key, v in values.items()}
    bound = _bind(signature, values, name)
    f = module.to(device) if module is not None else f
    if bound.kwargs:
        f = functools.partial(f, **bound.kwargs)
    names = [key for key in signature.parameters if key in values and key not in bound.kwargs]
    return Target(f, bound.args, _argnums(bound.args, names, wrt))


def load(name: str) -> UserFunction:
    """Return the function, or the module instance, that ``module:function`` or ``file.py:function`` names."""
    place, colon, path = name.rpartition(":")
    if not colon or not place or not path:
        raise CommandError(
            f"target {name!r}",
            expected="module:function, or file.py:function",
            instead=f"{name}:function" if name.endswith(".py") else "mypackage.models:residual",
        )
    thing: object = _file(Path(place)) if place.endswith(".py") else _module(place)
    for part in path.split("."):
        if not hasattr(thing, part):
            near = difflib.get_close_matches(part, [key for key in vars(thing) if not key.startswith("_")], 1)
            raise CommandError(
                f"{place} has no {path!r}",
                expected="the name of a function in it",
                instead=f"{place}:{near[0]}" if near else "",
            )
        thing = getattr(thing, part)
    if isinstance(thing, type) and issubclass(thing, torch.nn.Module):
        return _instance(thing, name)
    if not callable(thing):
        raise CommandError(f"{name} is a {type(thing).__name__}", expected="a function or a torch.nn.Module")
    function: UserFunction = thing
    return function


def _instance(kind: type[torch.nn.Module], name: str) -> torch.nn.Module:
    try:
        inspect.signature(kind).bind()
    except TypeError as error:
        raise CommandError(
            f"{name} cannot be made without arguments: {error}",
            expected="a class whose instance needs none, or an instance",
            instead=f"net = {kind.__name__}(...) in that file, and name net",
        ) from error
    torch.manual_seed(0)
    return kind()


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise CommandError(f"there is no file {path}", expected="a Python file")
    sys.path.insert(0, str(path.resolve().parent))  # what it imports from beside it
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> ModuleType:
    sys.path.insert(0, "")  # as python -m does
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not name.startswith(error.name):
            raise  # something that it imports is missing
        raise CommandError(
            f"there is no module {name!r}",
            expected="one that Python can import from here, or a path that ends with .py",
            instead=f"{name}.py:function" if Path(f"{name}.py").is_file() else "",
        ) from error


def _stored(init: str) -> dict[str, torch.Tensor]:
    try:
        return read_arrays(Path(init))
    except ReadError as error:
        raise CommandError(
            f"--init {init}: {error}", expected=f"{', '.join(FILLS)}, or a .pt, .npz or .safetensors file"
        ) from error


def _named(specs: Sequence[Input], signature: inspect.Signature) -> dict[str, Input]:
    """Give each input to a parameter: the one that it names, or the next one that has none."""
    free = [key for key, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD]
    given = {spec.name for spec in specs}
    out: dict[str, Input] = {}
    for spec in specs:
        left = [key for key in free if key not in out and key not in given]
        key = spec.name or (left[0] if left else "")
        if key not in free or key in out:
            raise CommandError(
                f"--input for {spec.name or 'one parameter more'}",
                expected=f"one for each of {', '.join(free) or 'no parameters'}",
            )
        out[key] = spec
    return out


def _from_file(
    stored: dict[str, torch.Tensor],
    arguments: dict[str, Input],
    signature: inspect.Signature,
    module: torch.nn.Module | None,
) -> dict[str, torch.Tensor]:
    """Return the tensors of the file by the names of parameters; the others become the module's state."""
    if not arguments and len(stored) == 1 and not set(stored) & set(signature.parameters):
        stored = dict(zip(list(signature.parameters)[:1], stored.values(), strict=False))
    out = {}
    for key in [key for key in stored if key in signature.parameters]:
        tensor, spec = stored.pop(key), arguments.get(key)
        if spec is not None and tuple(tensor.shape) != spec.shape:
            raise CommandError(
                f"{key} has shape {tuple(tensor.shape)} in the file", expected=f"{spec.shape}, as --input says"
            )
        out[key] = tensor if spec is None else tensor.to(spec.dtype)
    if stored and module is None:
        raise CommandError(
            f"the file of --init has {', '.join(map(repr, stored))}",
            expected=f"tensors named as the parameters: {', '.join(signature.parameters)}",
        )
    if stored and module is not None:
        try:
            module.load_state_dict(stored)
        except RuntimeError as error:
            raise CommandError(str(error), expected="the state of this module, or tensors by parameter name") from error
    return out


def _bind(signature: inspect.Signature, values: dict[str, object], name: str) -> inspect.BoundArguments:
    try:
        starred = {key for key, p in signature.parameters.items() if p.kind is p.VAR_POSITIONAL}
        return signature.bind(
            *(value for key, value in values.items() if key in starred),
            **{key: value for key, value in values.items() if key not in starred},
        )
    except TypeError as error:
        raise CommandError(
            f"{name}{signature}: {error}",
            expected="an --input for every parameter without a default",
            instead=" ".join(f'--input "{key}:float64[10]"' for key in _missing(signature, values)),
        ) from error


def _missing(signature: inspect.Signature, values: dict[str, object]) -> list[str]:
    return [key for key, p in signature.parameters.items() if key not in values and p.default is p.empty]


def _argnums(args: Args, names: Sequence[str], wrt: str | None) -> tuple[int, ...]:
    if wrt is not None:
        wanted = [part.strip() for part in wrt.split(",")]
        for name in wanted:
            if name not in names:
                raise CommandError(f"--wrt {name}", expected=f"some of {', '.join(names)}")
        return tuple(names.index(name) for name in wanted)
    found = tuple(k for k, a in enumerate(args) if isinstance(a, torch.Tensor) and a.is_floating_point())
    if not found:
        raise CommandError(
            "no input is a floating point tensor",
            expected="at least one to differentiate by",
            instead='--input "x:float64[100]"',
        )
    return found
