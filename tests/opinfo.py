"""Every differentiable entry of PyTorch's operator database, as functions of flat float64 inputs with an oracle."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

MAX_NUMEL = 300
MAX_SAMPLES = 4
SHUFFLES = 25


@dataclass
class Case:
    """One sample of one operator: ``f(*leaves) -> tuple of differentiable outputs``."""

    name: str
    f: Callable[..., tuple[torch.Tensor, ...]]
    leaves: tuple[torch.Tensor, ...]


def entries(dtype: torch.dtype = torch.float64) -> list[Any]:
    from torch.testing._internal.common_methods_invocations import op_db

    return [op for op in op_db if op.supports_autograd and dtype in op.supported_dtypes("cpu")]


def full_name(op: Any) -> str:
    return op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")


def cases(op: Any, dtype: torch.dtype = torch.float64, samples: int = MAX_SAMPLES) -> Iterator[Case]:
    """Up to ``samples`` samples of at most MAX_NUMEL inputs and outputs."""
    _seed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        generated = op.sample_inputs("cpu", dtype, requires_grad=True)
        found = 0
        for sample in generated:
            if found == samples:
                return
            case = _case(op, sample)
            if case is not None:
                found += 1
                yield case


def _channels_last(t: torch.Tensor) -> torch.Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return t.contiguous(memory_format=formats[t.dim()]) if t.dim() in formats else t


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "channels last": _channels_last,
    "permuted": lambda t: t.permute(*reversed(range(t.dim()))).contiguous().permute(*reversed(range(t.dim()))),
    "strided": lambda t: torch.stack([t, t.flip(0) if t.dim() else t], -1)[..., 0],
    "expanded": lambda t: t[:1].expand(t.shape) if t.dim() else t,
}


def in_layout(case: Case, layout: str) -> Case:
    """The same op on inputs that lie otherwise in memory (for "expanded" on rows that are all the first one)."""
    relaid = LAYOUTS[layout]
    return Case(f"{case.name}, {layout}", lambda *leaves: case.f(*map(relaid, leaves)), case.leaves)


def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # the samples of torch's own database draw from the legacy generator
    random.seed(0)


def _case(op: Any, sample: Any) -> Case | None:
    flat, spec = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
    places = [
        i
        for i, t in enumerate(flat)
        if isinstance(t, torch.Tensor) and t.layout is torch.strided and t.requires_grad and t.numel() > 0
    ]
    leaves = tuple(flat[i].detach().clone() for i in places)
    if not leaves or sum(t.numel() for t in leaves) > MAX_NUMEL:
        return None
    fixed = [t.detach() if isinstance(t, torch.Tensor) else t for t in flat]

    def f(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(1)
        full = [t.clone() if isinstance(t, torch.Tensor) and t.layout is torch.strided else copy.copy(t) for t in fixed]
        for place, t in zip(places, given, strict=True):
            full[place] = t
        input_, args, kwargs = pytree.tree_unflatten(full, spec)
        out = op(input_, *args, **kwargs)
        if sample.output_process_fn_grad is not None:
            out = sample.output_process_fn_grad(out)
        return tuple(
            t.to_dense() if t.layout is not torch.strided else t
            for t in pytree.tree_leaves(out)
            if isinstance(t, torch.Tensor) and (t.is_floating_point() or t.is_complex())
        )

    try:
        with torch.enable_grad():
            out = f(*(t.clone().requires_grad_() for t in leaves))
    except Exception:  # a sample that PyTorch itself refuses is nobody's case
        return None
    if not out or sum(t.numel() for t in out) > MAX_NUMEL or not any(t.requires_grad for t in out):
        return None
    return Case(full_name(op), *_in_reals(f, leaves))


def _in_reals(f: Callable[..., tuple[torch.Tensor, ...]], leaves: tuple[torch.Tensor, ...]) -> tuple[Any, Any]:
    """A function of complex numbers as one of pairs of real numbers."""
    hit = [t.is_complex() for t in leaves]

    def g(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outs = f(*(torch.view_as_complex(t.contiguous()) if c else t for t, c in zip(given, hit, strict=True)))
        return tuple(torch.view_as_real(t.resolve_conj()) if t.is_complex() and any(hit) else t for t in outs)

    return g, tuple(torch.view_as_real(t.resolve_conj()).clone() if c else t for t, c in zip(leaves, hit, strict=True))


def reverse_pattern(case: Case, leaves: tuple[torch.Tensor, ...]) -> np.ndarray | None:
    """Nonzero entries of the reverse-mode Jacobian, one plain VJP an output (two if complex); None if f fails there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xs = tuple(t.detach().clone().requires_grad_() for t in leaves)
        try:
            outs = case.f(*xs)
        except Exception:
            return None
        flat = [out.reshape(-1) for out in outs]
        rows = [_row(out, i, xs) for out in flat for i in range(out.numel())]
    return np.stack(rows) if rows else np.zeros((0, sum(t.numel() for t in leaves)), bool)


def _row(flat: torch.Tensor, i: int, xs: tuple[torch.Tensor, ...]) -> np.ndarray:
    hit = torch.zeros(sum(t.numel() for t in xs), dtype=torch.bool)
    if flat.requires_grad:
        for unit in (1, 1j) if flat.is_complex() else (1,):
            seed = torch.zeros_like(flat)
            seed[i] = unit
            grads = torch.autograd.grad(flat, xs, seed, retain_graph=True, allow_unused=True)
            hit |= torch.cat(
                [
                    torch.zeros(t.numel(), dtype=torch.bool) if g is None else _hit(g.reshape(-1))
                    for g, t in zip(grads, xs, strict=True)
                ]
            )
    return hit.numpy()


def _hit(gradient: torch.Tensor) -> torch.Tensor:
    """Nonzero and not NaN: 0 * inf in a formula is no dependence."""
    return (gradient != 0) & ~gradient.isnan()


def points(case: Case) -> Iterator[tuple[torch.Tensor, ...]]:
    """The sample, points near and far, mirrored, shuffled and rolled, so that max, sort and clamp choose otherwise."""
    generator = torch.Generator().manual_seed(2)
    yield case.leaves

    def noise(t: torch.Tensor) -> torch.Tensor:
        return torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t.dtype)

    for scale in (1e-3, 1e-3, 0.5, 2.0):
        yield tuple(t + scale * noise(t) for t in case.leaves)
    yield tuple(-t for t in case.leaves)
    for _ in range(SHUFFLES):
        order = [torch.randperm(t.numel(), generator=generator) for t in case.leaves]
        yield tuple(t.reshape(-1)[p].reshape(t.shape) for t, p in zip(case.leaves, order, strict=True))
        yield tuple(t * (1 + noise(t)) for t in case.leaves)
    for k in range(1, max(t.numel() for t in case.leaves)):
        yield tuple(t.reshape(-1).roll(k).reshape(t.shape) for t in case.leaves)
