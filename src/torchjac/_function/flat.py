"""A user's function as a function of flat lists: the leaves of its inputs, the leaves of its outputs.

``argnums`` says which arguments are differentiated; each may be a pytree. Everything downstream works on the ravelled
concatenation of their leaves, (n,), and of the output leaves, (m,); this room alone knows about trees.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.utils import _pytree as pytree
from torch.utils._pytree import PyTree

from .._base.errors import InputError, OutputError
from .._base.words import Args, UserFunction
from .leaves import Leaf, describe, input_leaves, output_leaves, split_aux, with_paths
from .levels import Levels
from .signature import Choices, signature_error, signature_of, version_of
from .subclasses import dressed, is_dressed, plain

Argnums = int | tuple[int, ...]


class FlatFunction:
    """A function ``f`` as a map from the leaves of its selected arguments to the leaves of its output.

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
        self.source: object = f  # what somebody wrote, however it is computed
        self.positions = _positions(argnums, len(args))
        flat, self._args_spec = pytree.tree_flatten(args)
        self._signature = [signature_of(leaf) for leaf in flat]
        self._takes_bare = _only_tensors(args)
        trees = [pytree.tree_flatten(args[p]) for p in self.positions]
        self._arg_specs = [spec for _, spec in trees]
        self.inputs = input_leaves([args[p] for p in self.positions], self.positions)
        self.n = self.inputs[-1].stop
        self.outputs: list[Leaf] = []
        self._out_spec: pytree.TreeSpec | None = None
        self._returns_bare = False  # a tensor, and no tree
        self._asks: bool | None = None  # whether f asks what transforms of torch.func hide; None until it ran in one
        self.others_choose = False  # whether a trace saw masks or indices computed from ``others``
        self._works_in_place: bool | None = None  # whether f writes to its arguments; None until it ran once
        self.all_bare = (
            self._takes_bare and self.positions == tuple(range(len(args))) and not any(map(is_dressed, args))
        )

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

    def examples(self) -> tuple[Args, PyTree]:
        """Arguments and an output like f's: a tensor is a view of one number, an object is replaced by its type."""
        plain: dict[type, object] = {int: 0, float: 0.0, bool: False, complex: 0j, str: "", type(None): None}
        leaves = [
            torch.empty((), dtype=s[1], device=s[2]).expand(s[0]) if isinstance(s, tuple) else plain.get(s, s)
            for s in self._signature
        ]
        assert self._out_spec is not None, "examples needs the output tree, known after f ran once"
        out = [torch.empty((), dtype=leaf.dtype, device=leaf.device).expand(leaf.shape) for leaf in self.outputs]
        return pytree.tree_unflatten(leaves, self._args_spec), pytree.tree_unflatten(out, self._out_spec)

    def expect(self, out: PyTree) -> None:
        """Fix the tree and shapes of f's output to those of ``out``, without running f; another output raises later."""
        self._flatten_output(out)

    def check(self, args: Args) -> None:
        """Raise SignatureError unless ``args`` has the tree, shapes, dtypes and devices this was made for."""
        if self._takes_bare and self._are_bare(args):
            return
        flat, spec = pytree.tree_flatten(args)
        if spec == self._args_spec and [signature_of(leaf) for leaf in flat] == self._signature:
            return
        paths = with_paths(pytree.tree_unflatten(range(len(self._signature)), self._args_spec))
        raise signature_error([f"args{path}" for path, _ in paths], self._signature, args)

    def _are_bare(self, args: Args) -> bool:
        """Whether ``args`` are tensors as in the signature, compared without a walk through trees."""
        return len(args) == len(self._signature) and all(
            isinstance(t, torch.Tensor) and (t.shape, t.dtype, t.device) == signature
            for t, signature in zip(args, self._signature, strict=True)
        )

    def admits(self, args: Args) -> bool:
        """Check ``args`` as ``check`` does, and say whether they can be used as they are: see ``ordinary``."""
        self.check(args)
        return not torch.is_inference_mode_enabled() and not any(
            isinstance(t, torch.Tensor) and t.is_inference() for t in _all_leaves(args)
        )

    def running(self, f: UserFunction) -> FlatFunction:
        """Return this function computed by ``f``; what is known of its outputs is kept."""
        other = copy.copy(self)
        other.f = f
        return other

    def opened(self, args: Args) -> tuple[tuple[torch.Tensor, ...], Callable[..., tuple[torch.Tensor, ...]]]:
        """The selected leaves of ``args``, and the function of them alone."""
        return (args, self.direct) if self.all_bare else (tuple(self.leaves(args)), self.bind(args))

    def direct(self, *leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return f's output leaves, where the input leaves are the arguments themselves: ``all_bare``."""
        out = self.call(leaves)
        return self._flatten_output(split_aux(out)[0] if self.has_aux else out)

    def leaves(self, args: Args) -> list[torch.Tensor]:
        """The leaves of the differentiated arguments in ``args``, in order."""
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

    def _others(self, args: Args) -> list[object]:
        leaves: list[object] = pytree.tree_leaves([a for p, a in enumerate(args) if p not in self.positions])
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
        """Run f once, so that ``outputs`` are known."""
        with torch.no_grad():
            self.bind(args)(*(leaf.detach() for leaf in self.leaves(args)))

    def call(self, args: Args) -> PyTree:
        """Return ``f(*args)``; an f that writes to its arguments in place gets copies of them."""
        if self._asks is False or torch._C._functorch.peek_interpreter_stack() is None:
            return self._call(args)
        with Levels() as levels:
            out = self._call(args)
        self._asks = levels.answered
        return out

    def _call(self, args: Args) -> PyTree:
        if self._works_in_place is False:
            return self.f(*args)
        copies = on_tensors(torch.clone, args)
        tensors = [leaf for leaf in _all_leaves(copies) if isinstance(leaf, torch.Tensor)]
        before = [version_of(t) for t in tensors]
        out = self.f(*copies)
        if self._works_in_place is None and -1 not in before:
            self._works_in_place = any(version_of(t) != v for t, v in zip(tensors, before, strict=True))
        return out

    def _flatten_output(self, out: PyTree) -> tuple[torch.Tensor, ...]:
        if self._returns_bare and isinstance(out, torch.Tensor) and out.shape == self.outputs[0].shape:
            return (out,)
        flat, spec = pytree.tree_flatten(out)
        if any(map(is_dressed, flat)):
            flat = list(map(plain, flat))
            out = pytree.tree_unflatten(flat, spec)
        if self._out_spec is None:
            self._returns_bare = isinstance(out, torch.Tensor)
            self.outputs = output_leaves(out)
            self._out_spec = spec
        elif spec != self._out_spec or any(t.shape != leaf.shape for t, leaf in zip(flat, self.outputs, strict=True)):
            raise OutputError(
                f"f returned {', '.join(describe(t) for t in flat)}",
                expected=", ".join(str(leaf) for leaf in self.outputs) + ", as when it was first called",
                why="a Jacobian has one fixed shape; this f returns another shape for other values",
            )
        return tuple(flat)

    def nest(self, blocks: Callable[[Leaf, Leaf], object]) -> PyTree:
        """The tree of ``blocks(out_leaf, in_leaf)`` of all pairs, in jacrev's nesting: outputs outside inputs."""
        assert self._out_spec is not None, "nest needs the output tree, known after f ran once"
        rows = [self._nest_inputs([blocks(out, leaf) for leaf in self.inputs]) for out in self.outputs]
        return pytree.tree_unflatten(rows, self._out_spec)

    def _nest_inputs(self, blocks: list[object]) -> PyTree:
        trees, start = [], 0
        for spec in self._arg_specs:
            trees.append(pytree.tree_unflatten(blocks[start : start + spec.num_leaves], spec))
            start += spec.num_leaves
        return trees[0] if isinstance(self.argnums, int) else tuple(trees)


def refuse_complex(function: FlatFunction) -> None:
    """Raise InputError where an input or output is complex; outputs must be known."""
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
    """Leave inference mode, in which every derivative is silently zero; yield copies of inference tensors."""
    inside = torch.is_inference_mode_enabled()
    if not inside and not any(isinstance(t, torch.Tensor) and t.is_inference() for t in _all_leaves(args)):
        yield args
        return
    with torch.inference_mode(False), torch.set_grad_enabled(torch.is_grad_enabled() and not inside):
        yield on_tensors(lambda t: t.clone() if t.is_inference() else t, args)


def on_tensors(change: Callable[[torch.Tensor], torch.Tensor], args: Args) -> Args:
    """Return the arguments with every tensor ``t`` replaced by ``change(t)``."""
    if _only_tensors(args):
        return tuple(map(change, args))
    changed: Args = pytree.tree_map(lambda t: change(t) if isinstance(t, torch.Tensor) else t, args)
    return changed


def _all_leaves(args: Args) -> Sequence[object]:
    return args if _only_tensors(args) else pytree.tree_leaves(args)


def _only_tensors(args: Args) -> bool:
    """Whether all arguments are tensors, so that there is no tree to walk: walking takes 10 us a call."""
    return all(isinstance(a, torch.Tensor) for a in args)


def _positions(argnums: Argnums, count: int) -> tuple[int, ...]:
    """The positions of the differentiated arguments among ``count``; InputError for argnums that do not fit."""
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
