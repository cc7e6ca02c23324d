"""While a function is traced: the kernels that have derivative formulas, and nothing left changed afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from .._base.lock import PROCESS_WIDE
from .._base.words import UserFunction


@contextmanager
def reference_kernels() -> Iterator[None]:
    """Attention by its mathematical definition, recurrent nets step by step: fused kernels hide who reads what."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with PROCESS_WIDE, _flags_off(), sdpa_kernel(SDPBackend.MATH), _eager():
        yield


def with_reference_kernels(f: UserFunction) -> UserFunction:
    """``f``, run on kernels that can be differentiated twice."""

    def g(*args: Any) -> Any:
        with reference_kernels():
            return f(*args)

    return g


@contextmanager
def _flags_off() -> Iterator[None]:
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    mkldnn, *_ = torch.backends.mkldnn.set_flags(_enabled=False)
    cudnn, *_ = torch.backends.cudnn.set_flags(_enabled=False)
    try:
        yield
    finally:
        torch.backends.cudnn.set_flags(_enabled=cudnn)
        torch.backends.mkldnn.set_flags(_enabled=mkldnn)
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _eager() -> AbstractContextManager[object]:
    """Compiled functions run op by op; only where Dynamo is in use, because to import it takes a second."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
