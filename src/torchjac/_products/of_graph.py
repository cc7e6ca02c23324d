"""Jacobians of a graph that exists already: tensors in, no function."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from .._base.errors import InputError, first_line
from .._base.random_state import random_numbers
from .._base.user_frame import warn
from .._function.leaves import describe
from .chunk import chunk_size, in_chunks, out_of_memory
from .rounding import close

_FEW = 3  # so many rows are not worth a batch


def jacobian_of(y: Any, x: Any) -> Any:
    """The Jacobian of ``y`` by ``x``, two tensors (or pytrees of tensors) that a graph joins.

    >>> import torch, torchjac as tj
    >>> x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> y = x[1:] * x[:-1]
    >>> tj.jacobian_of(y, x).tolist()
    [[2.0, 1.0, 0.0], [0.0, 3.0, 2.0]]

    Of shape (*y.shape, *x.shape), nested like ``torch.func.jacrev``: outputs outside, inputs inside. It takes a VJP for
    each element of y, many at once; a function of which one has the code is better served by ``jacobian``, which finds
    its structure. The graph is kept. Results follow grad mode: they may be differentiated, but for under
    ``torch.no_grad()``, which is faster and takes less memory. Where y does not depend on x there are zeros.

    Raises
    ------
    InputError: there is no graph, it was freed, or something is not a floating point tensor.
    """
    outs, out_spec = pytree.tree_flatten(y)
    ins, in_spec = pytree.tree_flatten(x)
    _check(outs, "y")
    _check(ins, "x")
    _check_graph(outs, ins)
    rows = _Rows(ins)
    J = [pytree.tree_unflatten(rows.of(out), in_spec) for out in outs]
    if not rows.reached:
        warn("no element of y depends on x: was x made anew since?")
    return pytree.tree_unflatten(J, out_spec)


class _Rows:
    """Rows of the Jacobian, ravelled over all inputs, of one output after another."""

    def __init__(self, ins: list[torch.Tensor]) -> None:
        self._ins, self.reached = ins, False
        self._trusted = True
        self._widths = [t.numel() for t in ins]

    def of(self, out: torch.Tensor) -> list[torch.Tensor]:
        """One block for each input."""
        count, width = out.numel(), sum(self._widths)
        if not out.requires_grad or count == 0:
            return [out.new_zeros((*out.shape, *t.shape), dtype=_dtype(out, t), device=t.device) for t in self._ins]
        batched = count > _FEW and self._batches_are_right(out)

        def some(start: int, stop: int) -> torch.Tensor:
            seeds = _unit_rows(out, start, stop)
            return self._products(out, seeds) if batched else self._one_by_one(out, seeds)

        chunk = chunk_size(count, count + width, out.element_size())
        flat, _ = in_chunks(some, count, chunk)
        parts = flat.split(self._widths, 1)
        pairs = zip(parts, self._ins, strict=True)
        return [part.to(t.device, _dtype(out, t)).reshape((*out.shape, *t.shape)) for part, t in pairs]

    def _one_by_one(self, out: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._products(out, seed, batched=False) for seed in seeds])

    def _products(self, out: torch.Tensor, seeds: torch.Tensor, batched: bool = True) -> torch.Tensor:
        """(k, n), for k seeds like ``out``, stacked; (1, n) for one that is not."""
        try:
            found = torch.autograd.grad(
                out,
                self._ins,
                seeds,
                retain_graph=True,
                create_graph=torch.is_grad_enabled(),
                allow_unused=True,
                is_grads_batched=batched,
            )
        except RuntimeError as error:
            if "second time" in str(error):
                raise _freed(error) from error
            raise
        self.reached |= any(g is not None for g in found)
        count = len(seeds) if batched else 1
        wide = torch.promote_types(out.dtype, _widest(self._ins))
        return torch.cat(
            [
                out.new_zeros((count, t.numel()), dtype=wide)
                if g is None
                else g.reshape(count, -1).to(out.device, wide)
                for g, t in zip(found, self._ins, strict=True)
            ],
            1,
        )

    def _batches_are_right(self, out: torch.Tensor) -> bool:
        """Whether two rows at once are two rows, and their gradients those of two."""
        if not self._trusted:
            return False
        count, reason = out.numel(), ""
        seeds = torch.cat([_unit_rows(out, 0, 1), _unit_rows(out, count - 1, count)])
        alone = self._one_by_one(out, seeds)
        try:
            together = self._products(out, seeds)
            if not _alike(together, alone):
                reason = "batches of them are wrong here"
            elif alone.requires_grad:
                w = random_numbers(alone.numel(), alone.detach()).reshape(alone.shape)
                gradients = [self._gradient((rows * w).sum()) for rows in (together, alone)]
                if not all(_alike(g, h) for g, h in zip(*gradients, strict=True)):
                    reason = "gradients through batches of them are wrong here"
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            reason = f"PyTorch said: {first_line(error)}"
        if reason:
            warn(f"products run one at a time, because {reason}")
        self._trusted = not reason
        return self._trusted

    def _gradient(self, total: torch.Tensor) -> list[torch.Tensor]:
        found = torch.autograd.grad(total, self._ins, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(t) if g is None else g for g, t in zip(found, self._ins, strict=True)]


def _alike(got: torch.Tensor, expected: torch.Tensor) -> bool:
    got, expected = got.detach(), expected.detach()
    size = expected.abs().max() if expected.numel() else expected.sum()
    return bool(close(got, expected, size.expand_as(expected)).all())


def _unit_rows(out: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Unit vectors, each in the shape of ``out``, stacked."""
    flat = torch.zeros(stop - start, out.numel(), dtype=out.dtype, device=out.device)
    flat[torch.arange(stop - start), torch.arange(start, stop)] = 1
    return flat.reshape(stop - start, *out.shape)


def _widest(tensors: list[torch.Tensor]) -> torch.dtype:
    dtype = tensors[0].dtype
    for t in tensors[1:]:
        dtype = torch.promote_types(dtype, t.dtype)
    return dtype


def _dtype(out: torch.Tensor, leaf: torch.Tensor) -> torch.dtype:
    return torch.promote_types(out.dtype, leaf.dtype)


def _check(leaves: list[Any], name: str) -> None:
    if not leaves:
        raise InputError(f"{name} holds no tensors", expected="a tensor, or a dict, list or tuple of tensors")
    for leaf in leaves:
        real = isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.layout is torch.strided
        if not real:
            raise InputError(f"{name} holds {describe(leaf)}", expected="strided floating point tensors")


def _check_graph(outs: list[torch.Tensor], ins: list[torch.Tensor]) -> None:
    for t in ins:
        if not t.requires_grad:
            raise InputError(
                f"x holds {describe(t)}, which does not require grad",
                expected="tensors that required grad when y was computed",
                instead="x.requires_grad_() before y is computed, or jacobian(f, x) for a function f",
            )
    if not any(t.requires_grad for t in outs):
        raise InputError(
            "y has no graph",
            expected="a tensor that was computed from x, where x required grad",
            why="it was computed under torch.no_grad(), detached, or before x required grad",
            instead="jacobian(f, x), which computes y itself",
        )


def _freed(error: RuntimeError) -> InputError:
    return InputError(
        "the graph of y was freed",
        expected="a graph that can be walked through again",
        why=first_line(error),
        instead="y.sum().backward(retain_graph=True) where it was walked through before",
    )
