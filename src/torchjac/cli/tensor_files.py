"""Tensors by name from a file: ``.pt`` (weights only), ``.npz`` (no pickle) or ``.safetensors``."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

_SAFE = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


class ReadError(ValueError):
    """The file cannot be read as tensors by name."""


def read_arrays(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors in a file; one without a name, or in a list, is called by its number. No code in it runs.

    Raises
    ------
    ReadError: it is not there, damaged, of another kind, or holds something else than tensors.
    """
    read = {".pt": _pt, ".pth": _pt, ".npz": _npz, ".safetensors": _safetensors}.get(path.suffix)
    if read is None:
        raise ReadError(f"a file that ends with {path.suffix!r}" if path.suffix else "not a way to fill inputs")
    if not path.is_file():
        raise ReadError("there is no such file")
    try:
        return read(path)
    except (ValueError, KeyError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ReadError(f"it cannot be read: {reason}") from error


def _pt(path: Path) -> dict[str, torch.Tensor]:
    stored: Any = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(stored, torch.Tensor):
        stored = [stored]
    named = dict(stored) if isinstance(stored, dict) else {str(k): v for k, v in enumerate(stored)}
    for key, value in named.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(f"{key} is a {type(value).__name__}, not a tensor")
    return named


def _npz(path: Path) -> dict[str, torch.Tensor]:
    with np.load(path, allow_pickle=False) as stored:
        return {key: torch.from_numpy(stored[key]) for key in stored.files}


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read eight bytes of length, a header in JSON, and the numbers: https://github.com/huggingface/safetensors."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    out = {}
    for key, about in header.items():
        if key == "__metadata__":
            continue
        begin, end = about["data_offsets"]
        dtype, body = _SAFE[about["dtype"]], bytearray(raw[start + begin : start + end])
        flat = torch.frombuffer(body, dtype=dtype) if body else torch.empty(0, dtype=dtype)
        out[key] = flat.reshape(about["shape"])
    return out
