"""Fourier transforms: dense along the transformed dimensions, the others untouched."""

from __future__ import annotations

from ..call import Call
from ..registry import rule
from ..relations import Mix, Relations


@rule("_fft_c2c", "_fft_r2c", "_fft_c2r")
def fft(call: Call) -> Relations:
    """Every frequency along ``dim`` collects every place along it; the last of them may change its length."""
    x = call["self"]
    gone = {d % x.dim() for d in call["dim"]}
    return [Mix(x, tuple(None if d in gone else d for d in range(x.dim())))]
