"""A user's function, seen flat: a list of input leaves in, a list of output leaves out.

``argnums`` says which arguments are differentiated; each may be a pytree. Everything downstream works on the ravelled
concatenation of their leaves, (n,), and of the output leaves, (m,); this file alone knows about trees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, is_dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from .._base.errors import InputError, OutputError, SignatureError
from .._base.words import Args, UserFunction
from .levels import as_under_autograd
from .subclasses import dressed, is_dressed, plain

Argnums = int | tuple[int, ...]


@dataclass(frozen=True)
class Leaf:
    """One tensor of a tree: where it is, what it looks like, and which part of the ravelled vector it fills."""

    path: str
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    start: int

    @property
    def numel(self) -> int:
        return self.shape.numel()

    @property
    def stop(self) -> int:
        return self.start + self.shape.numel()

    def __str__(self) -> str:
        return f"{self.path}: {describe(self)}"


def describe(tensor: Any) -> str:
    """``float64[3, 4] on cpu`` for a tensor, the type's name for anything else."""
    if not isinstance(tensor, (torch.Tensor, Leaf)):
        return f"{type(tensor).__name__} {tensor!r}"[:60]
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)} on {tensor.device}"


def _version(t: torch.Tensor) -> int:
    """How often t was written to in place; -1 for an inference tensor, which does not count."""
    return -1 if t.is_inference() else t._version


class Choices:
    """Arguments that can change a pattern: index tensors, masks, integers, strings.

    Floating point tensors are among them where ``floats``, because f computes masks or indices from them.
    """

    def __init__(self, leaves: Sequence[Any], floats: bool = False) -> None:
        self.plain = [a for a in leaves if not isinstance(a, (torch.Tensor, float))]
        self.tensors = [a for a in leaves if isinstance(a, torch.Tensor) and (floats or not a.is_floating_point())]
        self.versions = [_version(t) for t in self.tensors]

    def same(self, other: Choices) -> bool:
        """Whether all are equal; a tensor that was written to since counts as another."""
        return (
            self.versions == [_version(t) for t in self.tensors]
            and len(self.plain) == len(other.plain)
            and all(
                a is b or (type(a) is type(b) and bool(a == b)) for a, b in zip(self.plain, other.plain, strict=True)
            )
            and all(a is b or torch.equal(a, b) for a, b in zip(self.tensors, other.tensors, strict=True))
        )


class FlatFunction:
    """``f`` from the leaves of its selected arguments to the leaves of its output.

    ``inputs`` are known when it is made; ``outputs`` after the first call of a bound function (``bind``, ``look``).
    """

    def __init__(self, f: UserFunction, args: Args, argnums: Argnums = 0, has_aux: bool = False) -> None:
        if not callable(f):
            raise InputError(
                f"f is a {type(f).__name__}, not a function",
                expected="a function that maps tensors to tensors",
                instead="torchjac.jacobian(f, x)",
            )
        self.f, self.argnums, self.has_aux = f, argnums, has_aux
        self.positions = _positions(argnums, len(args))
        flat, self._args_spec = pytree.tree_flatten(args)
        self._signature = [_signature(leaf) for leaf in flat]
        self._takes_bare = _bare(args)
        trees = [pytree.tree_flatten(args[p]) for p in self.positions]
        self._arg_specs = [spec for _, spec in trees]
        self.inputs = _input_leaves([args[p] for p in self.positions], self.positions)
        self.n = self.inputs[-1].stop
        self.outputs: list[Leaf] = []
        self._out_spec: pytree.TreeSpec | None = None
        self.others_choose = False  # whether a trace saw masks or indices computed from ``others``
        self._works_in_place: bool | None = None  # whether f writes to its arguments; None until it ran once

    @property
    def m(self) -> int:
        """The number of ravelled outputs; known after the first call."""
        return self.outputs[-1].stop if self.outputs else 0

    @property
    def device(self) -> torch.device:
        return self.inputs[0].device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that holds every derivative: all input and output dtypes promoted."""
        dtype = self.inputs[0].dtype
        for leaf in (*self.inputs[1:], *self.outputs):
            dtype = torch.promote_types(dtype, leaf.dtype)
        return dtype

    def examples(self) -> tuple[Args, Any]:
        """(args, output) like f's: a tensor is a view of one number; what is neither tensor nor plain is its type."""
        plain = (int, float, bool, complex, str, type(None))
        leaves = [
            torch.empty((), dtype=s[1], device=s[2]).expand(s[0])
            if isinstance(s, tuple)
            else (s() if s in plain else s)
            for s in self._signature
        ]
        assert self._out_spec is not None, "examples needs the output tree, known after f ran once"
        out = [torch.empty((), dtype=leaf.dtype, device=leaf.device).expand(leaf.shape) for leaf in self.outputs]
        return pytree.tree_unflatten(leaves, self._args_spec), pytree.tree_unflatten(out, self._out_spec)

    def expect(self, out: Any) -> None:
        """Take f's output to be like ``out``, without running f; a first call that returns something else raises."""
        self._flatten_output(out)

    def check(self, args: Args) -> None:
        """Raise SignatureError unless ``args`` has the tree, shapes, dtypes and devices this was made for."""
        if _bare(args) and [_signature(leaf) for leaf in args] == self._signature and self._takes_bare:
            return
        flat, spec = pytree.tree_flatten(args)
        if spec == self._args_spec and [_signature(leaf) for leaf in flat] == self._signature:
            return
        paths = with_paths(pytree.tree_unflatten(range(len(self._signature)), self._args_spec))
        raise _signature_error([f"args{path}" for path, _ in paths], self._signature, args)

    def leaves(self, args: Args) -> list[torch.Tensor]:
        """The selected leaves of ``args``, in order."""
        return [leaf if type(leaf) is torch.Tensor else plain(leaf) for leaf in self._given(args)]

    def _given(self, args: Args) -> list[torch.Tensor]:
        return [leaf for p in self.positions for leaf in pytree.tree_leaves(args[p])]

    def choices(self, args: Args) -> Choices:
        """The arguments that are not differentiated and may decide which inputs f reads."""
        if len(self.positions) == len(args):
            return Choices(())
        return Choices(self._others(args), self.others_choose)

    def others(self, args: Args) -> list[torch.Tensor]:
        """The floating point tensors among the arguments that are not differentiated."""
        if len(self.positions) == len(args):
            return []
        return [t for t in self._others(args) if isinstance(t, torch.Tensor) and t.is_floating_point()]

    def _others(self, args: Args) -> list[Any]:
        leaves: list[Any] = pytree.tree_leaves([a for p, a in enumerate(args) if p not in self.positions])
        return leaves

    def bind(
        self, args: Args, within: AbstractContextManager[object] | None = None
    ) -> Callable[..., tuple[torch.Tensor, ...]]:
        """The function of the selected leaves alone, with every other argument held fixed; f runs ``within`` that."""
        given = self._given(args)
        subclasses = any(map(is_dressed, given))

        def flat(*leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
            full, start = list(args), 0
            if subclasses:
                leaves = tuple(map(dressed, leaves, given))
            for position, spec in zip(self.positions, self._arg_specs, strict=True):
                full[position] = pytree.tree_unflatten(leaves[start : start + spec.num_leaves], spec)
                start += spec.num_leaves
            with within or nullcontext():
                out = self.call(tuple(full))
            return self._flatten_output(split_aux(out)[0] if self.has_aux else out)

        return flat

    def look(self, args: Args) -> None:
        """Run f once, to see what it returns."""
        with torch.no_grad():
            self.bind(args)(*(leaf.detach() for leaf in self.leaves(args)))

    def call(self, args: Args) -> Any:
        """f(*args); what f writes to in place are copies, so that the caller's tensors stay as they are."""
        with as_under_autograd():
            return self._call(args)

    def _call(self, args: Args) -> Any:
        if self._works_in_place is False:
            return self.f(*args)
        copies = on_tensors(torch.clone, args)
        tensors = [leaf for leaf in _leaves(copies) if isinstance(leaf, torch.Tensor)]
        before = [_version(t) for t in tensors]
        out = self.f(*copies)
        if self._works_in_place is None and -1 not in before:
            self._works_in_place = any(_version(t) != v for t, v in zip(tensors, before, strict=True))
        return out

    def _flatten_output(self, out: Any) -> tuple[torch.Tensor, ...]:
        flat, spec = pytree.tree_flatten(out)
        if any(map(is_dressed, flat)):
            flat = list(map(plain, flat))
            out = pytree.tree_unflatten(flat, spec)
        if self._out_spec is None:
            self.outputs = _output_leaves(out)
            self._out_spec = spec
        elif spec != self._out_spec or any(t.shape != leaf.shape for t, leaf in zip(flat, self.outputs, strict=True)):
            raise OutputError(
                f"f returned {', '.join(describe(t) for t in flat)}",
                expected=", ".join(str(leaf) for leaf in self.outputs) + ", as when it was first called",
                why="a Jacobian has one fixed shape; this f returns another shape for other values",
            )
        return tuple(flat)

    def nest(self, blocks: Callable[[Leaf, Leaf], Any]) -> Any:
        """``blocks(out_leaf, in_leaf)`` for every pair, nested like jacrev: outputs outside, inputs inside."""
        assert self._out_spec is not None, "nest needs the output tree, known after f ran once"
        rows = [self._nest_inputs([blocks(out, leaf) for leaf in self.inputs]) for out in self.outputs]
        return pytree.tree_unflatten(rows, self._out_spec)

    def _nest_inputs(self, blocks: list[Any]) -> Any:
        trees, start = [], 0
        for spec in self._arg_specs:
            trees.append(pytree.tree_unflatten(blocks[start : start + spec.num_leaves], spec))
            start += spec.num_leaves
        return trees[0] if isinstance(self.argnums, int) else tuple(trees)


def refuse_complex(function: FlatFunction) -> None:
    """Raise InputError where an input or output is complex; f ran once."""
    instead = "lambda x: torch.view_as_real(f(x)), or .real or .abs() of what f returns"
    if any(leaf.dtype.is_complex for leaf in function.inputs):
        instead = "lambda z: torch.view_as_real(f(torch.view_as_complex(z))), with z = torch.view_as_real(x)"
    for leaf in (*function.inputs, *function.outputs):
        if leaf.dtype.is_complex:
            raise InputError(
                f"{leaf} is complex",
                expected="real inputs and outputs",
                why="a complex function has a derivative by real and one by imaginary parts, and conventions differ",
                instead=instead,
            )


@contextmanager
def ordinary(args: Args) -> Iterator[Args]:
    """Outside inference mode, in which every derivative is silently zero; inference tensors come as copies."""
    inside = torch.is_inference_mode_enabled()
    if not inside and not any(isinstance(t, torch.Tensor) and t.is_inference() for t in _leaves(args)):
        yield args
        return
    with torch.inference_mode(False), torch.set_grad_enabled(torch.is_grad_enabled() and not inside):
        yield on_tensors(lambda t: t.clone() if t.is_inference() else t, args)


def on_tensors(change: Callable[[torch.Tensor], torch.Tensor], args: Args) -> Args:
    """The same arguments with ``change`` made to every tensor."""
    if _bare(args):
        return tuple(map(change, args))
    changed: Args = pytree.tree_map(lambda t: change(t) if isinstance(t, torch.Tensor) else t, args)
    return changed


def _leaves(args: Args) -> Sequence[Any]:
    return args if _bare(args) else pytree.tree_leaves(args)


def _bare(args: Args) -> bool:
    """Whether all arguments are tensors, so that there is no tree to walk: walking takes 10 us a call."""
    return all(isinstance(a, torch.Tensor) for a in args)


def _positions(argnums: Argnums, count: int) -> tuple[int, ...]:
    listed = tuple(argnums) if isinstance(argnums, (tuple, list)) else (argnums,)
    if count == 0:
        raise InputError(
            "f was given without arguments", expected="at least one tensor argument", instead="jacobian(f, x)"
        )
    for a in listed:
        if not isinstance(a, int) or not -count <= a < count:
            raise InputError(
                f"argnums={argnums!r} for a function called with {count} argument{'s' * (count != 1)}",
                expected=f"numbers from 0 to {count - 1} (or from the end, -1 to {-count})",
                instead=f"argnums={min(count - 1, 1)}",
            )
    positions = tuple(a % count for a in listed)
    if not positions or len(set(positions)) != len(positions):
        raise InputError(f"argnums={argnums!r}", expected="at least one argument, each named once")
    return positions


def _input_leaves(trees: Sequence[Any], positions: Sequence[int]) -> list[Leaf]:
    leaves: list[Leaf] = []
    for tree, position in zip(trees, positions, strict=True):
        for path, value in with_paths(tree):
            name = f"args[{position}]{path}"
            if not isinstance(value, torch.Tensor):
                raise InputError(
                    f"{name} is {describe(value)}",
                    expected="a tensor",
                    why="only tensors can be differentiated with respect to",
                    instead=_instead_of(value),
                )
            if not (value.is_floating_point() or value.is_complex()):
                raise InputError(
                    f"{name} is {describe(value)}",
                    expected="a floating point tensor",
                    why=f"derivatives with respect to {str(value.dtype).removeprefix('torch.')} do not exist",
                    instead="x.double(), or leave this argument out of argnums",
                )
            if value.layout is not torch.strided:
                raise InputError(
                    f"{name} is a tensor of layout {value.layout}",
                    expected="a strided tensor",
                    why="which entries of a sparse tensor count as inputs is not said",
                    instead="differentiate with respect to its values(), and build the sparse tensor inside f",
                )
            leaves.append(Leaf(name, value.shape, value.dtype, value.device, leaves[-1].stop if leaves else 0))
    if not leaves or leaves[-1].stop == 0:
        what = f"{leaves[0]}" if leaves else f"args[{positions[0]}] holds no tensors"
        raise InputError(
            f"the input is empty ({what})", expected="at least one element", why="there is nothing to differentiate by"
        )
    return leaves


def _instead_of(value: Any) -> str:
    if isinstance(value, torch.nn.Module):
        return "f, params = torchjac.functional(module), and params as the argument"
    if is_dataclass(value):
        return f"torch.export.register_dataclass({type(value).__name__}), once, before this call"
    if isinstance(value, (int, float)):
        return f"torch.tensor({value!r}, dtype=torch.float64), or leave this argument out of argnums"
    return "leave this argument out of argnums"


def _output_leaves(out: Any) -> list[Leaf]:
    leaves: list[Leaf] = []
    for path, value in with_paths(out):
        name = f"f(...){path}"
        if not isinstance(value, torch.Tensor):
            raise OutputError(
                f"{name} is {describe(value)}",
                expected="a tensor, or a dict, list or tuple of tensors",
                why="only tensors have derivatives",
                instead=f"torch.export.register_dataclass({type(value).__name__}), once"
                if is_dataclass(value)
                else "the tensor itself (no .item(), no .numpy()), or return y, extras with has_aux=True",
            )
        if not (value.is_floating_point() or value.is_complex()):
            raise OutputError(
                f"{name} is {describe(value)}",
                expected="a floating point tensor",
                why="integers and booleans have no derivative (forward mode would silently give zeros)",
                instead="return it beside the output and pass has_aux=True",
            )
        if value.layout is not torch.strided:
            raise OutputError(
                f"{name} is a tensor of layout {value.layout}", expected="a strided tensor", instead="y.to_dense()"
            )
        leaves.append(Leaf(name, value.shape, value.dtype, value.device, leaves[-1].stop if leaves else 0))
    if not leaves:
        raise OutputError(f"f returned {out!r}, which holds no tensors", expected="at least one tensor")
    return leaves


def with_paths(tree: Any) -> list[tuple[str, Any]]:
    """The leaves of a tree, each with its place as one would write it."""
    if isinstance(tree, torch.Tensor):
        return [("", tree)]
    try:
        return [(pytree.keystr(path), leaf) for path, leaf in pytree.tree_flatten_with_path(tree)[0]]
    except ValueError:  # a node that was registered without names for its children
        return [(f"[leaf {i}]", leaf) for i, leaf in enumerate(pytree.tree_leaves(tree))]


def split_aux(out: Any) -> tuple[Any, Any]:
    """(output, aux) from what a function with has_aux returned."""
    if not (isinstance(out, tuple) and len(out) == 2):
        raise OutputError(
            f"f returned {type(out).__name__}",
            expected="a pair (output, aux), because has_aux=True",
            instead="return y, aux",
        )
    return out[0], out[1]


def _signature(leaf: Any) -> Any:
    """What must stay the same from call to call: all but the values of a tensor; the type of anything else."""
    return (leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, torch.Tensor) else type(leaf)


def _signature_error(paths: list[str], planned: list[Any], args: Args) -> SignatureError:
    def text(signature: Any) -> str:
        if not isinstance(signature, tuple):
            return str(signature.__name__)
        shape, dtype, device = signature
        return f"{str(dtype).removeprefix('torch.')}{list(shape)} on {device}"

    before = dict(zip(paths, map(text, planned), strict=True))
    now = {f"args{path}": text(_signature(leaf)) for path, leaf in with_paths(args)}
    names = list(dict.fromkeys([*before, *now]))
    width = max(len(name) for name in names)
    rows = [
        f"\n    {name:<{width}}  planned {before.get(name, 'nothing'):<28} called with {now.get(name, 'nothing')}"
        + ("" if before.get(name) == now.get(name) else "   <--")
        for name in names
    ]
    return SignatureError(
        "the arguments are not those the plan was made for:" + "".join(rows),
        why="pattern, coloring and seeds hold for one signature",
        instead="plan_jacobian(f, *args) again with these arguments",
    )


def place(leaves: Sequence[Leaf], position: int) -> str:
    """``args[0][1, 2]``: the leaf and the index in it of a position in the ravelled vector."""
    for leaf in leaves:
        if leaf.start <= position < leaf.stop:
            at = np.unravel_index(position - leaf.start, leaf.shape) if len(leaf.shape) else ()
            return leaf.path + (f"[{', '.join(str(int(p)) for p in at)}]" if leaf.shape else "")
    raise AssertionError(f"position {position} is in no leaf")
