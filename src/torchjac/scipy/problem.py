"""A PyTorch function as SciPy's solvers see one: flat NumPy vectors in and out, derivatives from a plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._pytree import tree_leaves

from .._base.errors import InputError, OptionError
from .._base.words import UserFunction
from .._operators.jacobian import JacobianOperator
from .._plan.jacobian import JacobianPlan
from .._plan.options import HessianOptions, JacobianOptions
from .._plan.verbs import plan_hessian, plan_jacobian

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import LinearOperator

Array = npt.NDArray[np.float64]
Start = npt.ArrayLike | tuple[npt.ArrayLike, ...]
"""Where a solver starts: an array, or a tuple of arrays."""
Device = torch.device | str
Function = UserFunction

_DENSE = 250_000  # a matrix of so many numbers is as fast dense, and SciPy's dense solvers are the sturdier ones
_FULL = 0.2  # so much of a matrix being nonzero, it is kept dense


class Problem:
    """A function of tensors as SciPy sees it: flat NumPy vectors in and out; with ``time``, f(t, ...)."""

    def __init__(
        self, f: Function, x0: Start, device: Device, jacobian: JacobianOptions | None, time: float | None = None
    ) -> None:
        self._f, self._device, self._options = f, torch.device(device), jacobian or {}
        self._several = isinstance(x0, tuple)
        arrays = [_array(part) for part in (x0 if isinstance(x0, tuple) else (x0,))]
        self._shapes = [array.shape for array in arrays]
        self.x0 = np.concatenate([array.reshape(-1) for array in arrays])
        self._time = time
        self._plan: JacobianPlan | None = None

    def tensors(self, x: Array) -> tuple[torch.Tensor, ...]:
        """Return the arguments of f at x: copies, because SciPy writes to its vectors."""
        whole = torch.tensor(x, dtype=torch.float64, device=self._device)
        parts = whole.split([math.prod(shape) for shape in self._shapes])
        return tuple(part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True))

    def arrays(self, x: Array) -> Array | tuple[Array, ...]:
        """Return x in the shape of what was given."""
        arrays = tuple(part.cpu().numpy() for part in self.tensors(x))
        return arrays if self._several else arrays[0]

    def _args(self, x: Array, time: float | None) -> tuple[torch.Tensor, ...]:
        clock = () if time is None else (torch.tensor(time, dtype=torch.float64, device=self._device),)
        return (*clock, *self.tensors(x))

    @property
    def plan(self) -> JacobianPlan:
        """The plan, made at x0 on first use."""
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def _make_plan(self) -> JacobianPlan:
        first = 0 if self._time is None else 1
        argnums = tuple(range(first, first + len(self._shapes)))
        with torch.no_grad():
            return plan_jacobian(self._f, *self._args(self.x0, self._time), argnums=argnums, **self._options)

    def small(self) -> bool:
        """Tell whether a dense matrix is the better one."""
        m, n = self.plan.shape
        return m * n <= _DENSE or self.plan.pattern.nnz > _FULL * m * n

    def fun_at(self, time: float | None, x: Array) -> Array:
        """Return f(t, x), ravelled."""
        with torch.no_grad():
            out = self._f(*self._args(x, time))
        return np.concatenate([part.detach().cpu().double().numpy().reshape(-1) for part in tree_leaves(out)])

    def sparse_jac_at(self, time: float | None, x: Array) -> csr_array:
        """Return the Jacobian by x, sparse."""
        with torch.no_grad():
            return self.plan.matrix(*self._args(x, time)).to_scipy()

    def jac_at(self, time: float | None, x: Array) -> Array:
        """Return the Jacobian by x, dense."""
        dense: Array = self.sparse_jac_at(time, x).toarray()
        return dense

    def fun(self, x: Array) -> Array:
        """Return f(x), ravelled."""
        return self.fun_at(None, x)

    def jac(self, x: Array) -> Array:
        """Return the Jacobian, dense."""
        return self.jac_at(None, x)

    def sparse_jac(self, x: Array) -> csr_array:
        """Return the Jacobian, sparse."""
        return self.sparse_jac_at(None, x)

    def result(self, found: OptimizeResult) -> OptimizeResult:
        """Return SciPy's result, with x in the shape of x0, and the plan."""
        found.plan = self._plan
        if hasattr(found, "x"):
            found.x = self.arrays(found.x)
        return found


class ScalarProblem(Problem):
    """A scalar function as SciPy sees it; its Jacobian is the Hessian, the Jacobian of its gradient."""

    def __init__(self, f: Function, x0: Start, device: Device, hessian: HessianOptions | None) -> None:
        super().__init__(f, x0, device, hessian)
        if (hessian or {}).get("uplo", "full") != "full":
            raise OptionError(
                f"hessian={hessian!r}",
                expected='"uplo" to be "full"',
                why="SciPy multiplies by the Hessian it is given, and one triangle is another matrix",
                instead="hessian={...} without uplo",
            )
        self._every = tuple(range(len(self._shapes)))
        self._slope = torch.func.grad(f, argnums=self._every)
        self._here: tuple[bytes, JacobianOperator] | None = None

    def _make_plan(self) -> JacobianPlan:
        with torch.no_grad():
            return plan_hessian(self._f, *self.tensors(self.x0), argnums=self._every, **self._options)

    def value(self, x: Array) -> float:
        """Return f(x)."""
        return float(self.fun(x)[0])

    def gradient(self, x: Array) -> Array:
        """Return the gradient, (n,)."""
        parts = self._slope(*self.tensors(x))
        return np.concatenate([part.detach().cpu().numpy().reshape(-1) for part in parts])

    def hessp(self, x: Array, p: Array) -> Array:
        """Return H p; the gradient is evaluated once for all p at one x."""
        key = x.tobytes()
        if self._here is None or self._here[0] != key:
            self._here = key, JacobianOperator(self._slope, *self.tensors(x), argnums=self._every)
        operator = self._here[1]
        with torch.no_grad():
            out = operator.T @ torch.tensor(p, dtype=operator.dtype, device=operator.device)  # H is symmetric
        product: Array = out.cpu().numpy()
        return product


def inverse(problem: Problem) -> LinearOperator:
    """Return an operator that solves with the Jacobian at the point that Newton-Krylov is at."""
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import LinearOperator, splu

    class Inverse(LinearOperator):  # type: ignore[misc]  # scipy has no types
        def __init__(self) -> None:
            super().__init__(np.float64, problem.plan.shape)
            self._solve: Callable[[Array], Array] | None = None

        def setup(self, x: Array, f: Array, function: object) -> None:
            self.update(x, f)

        def update(self, x: Array, f: Array) -> None:
            self._solve = splu(csc_array(problem.sparse_jac(x))).solve

        def _matvec(self, b: Array) -> Array:
            assert self._solve is not None  # SciPy calls setup first
            return self._solve(b)

    return Inverse()


def _array(x: npt.ArrayLike) -> Array:
    array = np.asarray(x)
    if array.dtype == object or np.iscomplexobj(array):
        raise InputError(
            f"x0 is {type(x).__name__} of dtype {array.dtype}",
            expected="an array of real numbers, or a tuple of such arrays",
        )
    return array.astype(np.float64)
