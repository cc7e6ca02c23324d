"""Ops of which some formula of PyTorch is right at most values and wrong at some, where plain autograd is right.

No check of one point can vouch for them, so what computes their derivatives is decided beforehand. Each list is what
``tests/test_hostile_values.py`` measures, at zeros, ties, identity and singular matrices, equal eigenvalues and wide
ranges; the names are those of the ops below autograd.
"""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from .._base.words import Args
from .._function.flat import FlatFunction
from .call import base_name

# Forward mode is wrong or nan: JVPs, and forward-over-reverse.
FORWARD = frozenset(
    "_linalg_det _linalg_eigh _prelu_kernel atan2 cholesky_inverse fmax logcumsumexp max_unpool2d max_unpool3d polar "
    "triangular_solve".split()
)

# Plain VJPs are wrong in a batch.
BATCH = frozenset({"_cdist_forward"})

# VJPs by torch.func differ from those of autograd, one at a time too, and so do derivatives of torch.func.grad.
FUNCTIONAL = frozenset({"_linalg_det"})

# Gradients through JVPs are wrong or nan at some values. Where they are wrong at all, one probe shows it.
FORWARD_GRADIENT = frozenset({"cumprod", "linalg_vector_norm", "std"})

# Gradients through a batch of plain VJPs are wrong or nan at some values.
BATCH_GRADIENT = frozenset({"_linalg_det", "cumprod"})

_ALL = FORWARD | BATCH | FUNCTIONAL | FORWARD_GRADIENT | BATCH_GRADIENT


def delicate_among(names: set[str]) -> frozenset[str]:
    """The ops among ``names`` that are in any of the lists."""
    return _ALL & names


class _Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it without annotations
        self.names: set[str] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Otherwise torch guards the dispatch from torch.compile, and imports Dynamo (1 s) at the first op."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Args = (), kwargs: dict[str, Any] | None = None) -> Any:
        self.names.add(base_name(func))
        return func(*args, **(kwargs or {}))


def look_for_delicate(function: FlatFunction, args: Args) -> frozenset[str]:
    """Run f once, so that its outputs are known, and return its delicate ops."""
    mode = _Names()
    try:
        with mode:
            function.look(args)
    except RuntimeError:  # some functions do not run under a mode; f's own error is raised again
        function.look(args)
    return delicate_among(mode.names)
