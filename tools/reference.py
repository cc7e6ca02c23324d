"""The reference pages, written from docstrings while mkdocs builds; nothing is kept on disk.

A docstring of this project opens with a sentence and a runnable example, then has sections in numpy's form whose lines
read ``name: what it is``. That is little enough to be turned into Markdown here, without another package.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import torchjac

_SECTION = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
_ITEM = re.compile(r"^(\w[\w, *]*): ", re.MULTILINE)
_EXAMPLE = re.compile(r"^>>> .*\n(?:.+\n?)*", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Mkdocs asks here for its list of files."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """Markdown by the name of the page."""
    names = {name: getattr(torchjac, name) for name in dir(torchjac) if name[0] != "_"}  # loads what is not loaded yet
    public = {name: value for name, value in names.items() if not inspect.ismodule(value)}
    errors = {n: v for n, v in public.items() if inspect.isclass(v) and issubclass(v, (Exception, Warning))}
    classes = {n: v for n, v in public.items() if inspect.isclass(v) and n not in errors}
    functions = {n: v for n, v in public.items() if n not in errors and n not in classes}
    return {
        "functions": page("Functions", "What `import torchjac as tj` brings.", functions),
        "objects": page("Objects", "What functions return.", classes),
        "errors": page("Errors and warnings", "Each error has `got`, `expected`, `why` and `instead`.", errors),
        "modules": "\n".join(["# Modules", *modules(set(public))]),
    }


def page(title: str, opening: str, things: dict[str, Any]) -> str:
    """One page: every thing with its members, by name."""
    return "\n".join([f"# {title}\n\n{opening}\n", *(entry(name, things[name], 2) for name in sorted(things))])


def modules(known: set[str]) -> Iterator[str]:
    """The public modules that have something of their own."""
    for found in pkgutil.iter_modules(torchjac.__path__):
        if found.name.startswith("_"):
            continue
        module = importlib.import_module(f"torchjac.{found.name}")
        own = {name: value for name, value in exported(module) if name not in known}
        if own:
            yield f"## torchjac.{found.name}\n\n{markdown(module.__doc__ or '')}\n"
            yield from (entry(name, own[name], 3) for name in sorted(own))


def exported(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The functions and classes that a module shows: those of ``__all__``, those it defines, or those it re-exports."""
    for name in getattr(module, "__all__", vars(module)):
        value = getattr(module, name)
        home = getattr(value, "__module__", "")
        ours = "__all__" in vars(module) or home == module.__name__ or not _defines(module)
        if name[0] != "_" and ours and (inspect.isfunction(value) or inspect.isclass(value)):
            yield name, value


def _defines(module: ModuleType) -> bool:
    return any(getattr(value, "__module__", "") == module.__name__ for value in vars(module).values())


def entry(name: str, thing: Any, level: int) -> str:
    """A heading, the signature, the docstring, and the public members of a class."""
    parts = [f"{'#' * level} {name}\n", signature(name, thing), markdown(inspect.getdoc(thing) or "") + "\n"]
    if inspect.isclass(thing) and not issubclass(thing, BaseException):
        for member, value in sorted(members(thing).items()):
            called = "" if isinstance(value, property) else _text(value)
            parts.append(f"**`{member}{called}`** {markdown(inspect.getdoc(value) or '')}\n")
    return "\n".join(parts)


def members(thing: type) -> dict[str, Any]:
    """Public methods and properties, inherited ones of ours too, that have a docstring."""
    found: dict[str, Any] = {}
    for base in reversed(thing.__mro__):
        if base.__module__.startswith("torchjac"):
            found |= {n: getattr(base, n) if callable(getattr(base, n, None)) else v for n, v in vars(base).items()}
    return {
        n: v
        for n, v in found.items()
        if n[0] != "_" and (isinstance(v, property) or inspect.isroutine(v)) and inspect.getdoc(v)
    }


def signature(name: str, thing: Any) -> str:
    """A fenced signature; nothing for errors, whose arguments are their own affair."""
    if inspect.isclass(thing) and issubclass(thing, BaseException):
        return ""
    return f"```text\n{name}{_text(thing)}\n```\n"


def _text(thing: Any) -> str:
    try:
        given = inspect.signature(thing)
    except (TypeError, ValueError):  # built without a signature that Python could tell
        return "(...)"
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in given.parameters.values() if p.name != "self"]
    text = str(given.replace(parameters=plain, return_annotation=inspect.Signature.empty))
    return re.sub(r"<(?:function|class) .*?>( at 0x\w+>)?", "...", text)  # a default without a short name


def markdown(docstring: str) -> str:
    """A docstring as Markdown."""
    text = _EXAMPLE.sub(lambda block: f"\n~~~pycon\n{block[0].rstrip()}\n~~~\n", inspect.cleandoc(docstring))
    text = re.sub(r"(?<!`)``(?!`)", "`", text)
    head, *sections = _SECTION.split(text)
    parts = [head.rstrip()]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        parts.append(f"**{title}**\n\n{_items(body.strip())}")
    return "\n\n".join(parts)


def _items(body: str) -> str:
    """Lines ``name: text`` as a list; anything else as it stands."""
    return _ITEM.sub(lambda found: f"- `{found[1]}`: ", body) if _ITEM.match(body) else body
