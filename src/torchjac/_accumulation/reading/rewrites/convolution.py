"""Convolutions and their backward: for each tap of the kernel, a slice times a weight, put where it belongs.

Before/after, kernel [a, b] without padding: ``a * x[:-1] + b * x[1:]``; backward, the same taps transposed:
``pad(a * g, (0, 1)) + pad(b * g, (1, 0))``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import reduce

import torch

from ...._base.words import OpResult
from ...._tangent.call import Call
from ...._tangent.rules.convolution import Geometry
from .registry import rewrite
from .windows import Piece, added, put, taken

Tap = tuple[tuple[int, ...], tuple[Piece, ...]]
"""A place in the kernel and, along each spatial dimension, the outputs and inputs that meet there."""


@rewrite("convolution")
def convolution(call: Call) -> OpResult:
    """(N, C_in, *in), (C_out, C_in / groups, *kernel), (C_out,) -> (N, C_out, *out)."""
    x, bias = call["input"], call["bias"]
    geometry = Geometry(call, x.shape[2:], _outputs(call))
    out = _through(x, _matrices(call["weight"], geometry), list(_taps(geometry)), geometry.outputs)
    return out if bias is None else out + bias.reshape(-1, *[1] * (x.dim() - 2))


@rewrite("convolution_backward")
def convolution_backward(call: Call) -> OpResult:
    """grad_output (N, C_out, *out) -> gradients of input, weight and bias, where asked for."""
    grad, x, weight = call["grad_output"], call["input"], call["weight"]
    geometry = Geometry(call, x.shape[2:], grad.shape[2:])
    taps = list(_taps(geometry))
    of_input, of_weight, of_bias = call["output_mask"]
    return (
        _through(grad, _matrices(weight, geometry).transpose(1, 2), [_transposed(t) for t in taps], geometry.inputs)
        if of_input
        else None,
        _of_weight(grad, x, weight, geometry, taps) if of_weight else None,
        grad.sum([0, *range(2, grad.dim())]) if of_bias else None,
    )


def _outputs(call: Call) -> list[int]:
    """Return the spatial shape of the result."""
    sizes, kernel = call["input"].shape[2:], call["weight"].shape[2:]
    stride, padding, dilation, more = (
        list(call[n]) * (len(sizes) if len(call[n]) == 1 else 1)
        for n in ("stride", "padding", "dilation", "output_padding")
    )
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if call["transposed"]:
        return [
            (n - 1) * s - 2 * p + r + m + 1 for n, s, p, r, m in zip(sizes, stride, padding, reach, more, strict=True)
        ]
    return [(n + 2 * p - r - 1) // s + 1 for n, s, p, r in zip(sizes, stride, padding, reach, strict=True)]


def _taps(geometry: Geometry) -> Iterator[Tap]:
    """Yield the taps that meet an input anywhere."""
    per_dim = [geometry.positions(k) for k in range(len(geometry.kernel))]
    for tap in itertools.product(*map(range, geometry.kernel)):
        found = tuple(Piece.of_positions(positions[:, at]) for positions, at in zip(per_dim, tap, strict=True))
        if all(piece.out.numel() for piece in found):
            yield tap, found


def _transposed(tap: Tap) -> Tap:
    return tap[0], tuple(piece.transposed() for piece in tap[1])


def _matrices(weight: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Return the kernel as (groups, C_out / groups, C_in / groups, *kernel)."""
    split = weight.reshape(geometry.groups, weight.shape[0] // geometry.groups, *weight.shape[1:])
    return split.transpose(1, 2) if geometry.transposed else split


def _through(x: torch.Tensor, weight: torch.Tensor, taps: Sequence[Tap], sizes: Sequence[int]) -> torch.Tensor:
    """Convolve (N, groups * from, *in) with (groups, to, from, *kernel): (N, groups * to, *sizes)."""
    groups, to, source = weight.shape[:3]
    terms = []
    for tap, found in taps:
        term = _at(x, [piece.places for piece in found])
        spatial = term.shape[2:]
        w = reduce(lambda t, at: t.select(3, at), tap, weight).reshape(1, groups, to, source, *[1] * len(spatial))
        term = (term.reshape(x.shape[0], groups, 1, source, *spatial) * w).sum(3)
        term = term.reshape(x.shape[0], groups * to, *spatial)
        for k, piece in enumerate(found):
            term = put(term, 2 + k, piece.out, sizes[k])
        terms.append(term)
    return added(terms) if terms else x.new_zeros(x.shape[0], groups * to, *sizes)


def _at(x: torch.Tensor, places: Sequence[torch.Tensor]) -> torch.Tensor:
    for k, along in enumerate(places):
        x = taken(x, 2 + k, along)
    return x


def _of_weight(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, geometry: Geometry, taps: Sequence[Tap]
) -> torch.Tensor:
    """Return the gradient of the weight: for each tap, products of what meets there, summed over batch and places."""
    n, groups = x.shape[0], geometry.groups
    into, out = x.shape[1] // groups, grad.shape[1] // groups
    met = dict(taps)
    found = []
    for tap in itertools.product(*map(range, geometry.kernel)):
        if tap in met:
            a = _at(grad, [piece.out for piece in met[tap]])
            b = _at(x, [piece.places for piece in met[tap]])
            product = a.reshape(n, groups, out, 1, *a.shape[2:]) * b.reshape(n, groups, 1, into, *b.shape[2:])
            found.append(product.sum([0, *range(4, product.dim())]))
        else:
            found.append(grad.new_zeros(groups, out, into))
    stacked = torch.stack(found, -1)
    return (stacked.transpose(1, 2) if geometry.transposed else stacked).reshape(weight.shape)
