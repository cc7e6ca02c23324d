"""Reference kernels: PyTorch's settings under which every op runs on a kernel that has derivative formulas."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from .._base.lock import PROCESS_WIDE
from .._base.words import UserFunction


@contextmanager
def reference_kernels() -> Iterator[None]:
    """Run attention by its definition and recurrent nets step by step: fused kernels hide which output reads what."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with PROCESS_WIDE, _flags_off(), sdpa_kernel(SDPBackend.MATH), _eager():
        yield


def with_reference_kernels(f: UserFunction) -> UserFunction:
    """The function ``f``, run on kernels that can be differentiated twice."""

    def g(*args: object) -> object:
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
    """Run compiled functions op by op; only where Dynamo is in use, because its import takes a second."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
