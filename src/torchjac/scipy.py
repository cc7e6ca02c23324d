"""SciPy's solvers with derivatives of PyTorch functions: NumPy in and out, one line each.

>>> import numpy as np, torch
>>> from torchjac.scipy import least_squares
>>> t = torch.linspace(0, 1, 20, dtype=torch.float64)
>>> def misfit(p):  # a tensor like x0
...     return p[0] * torch.exp(-p[1] * t) - 3 * torch.exp(-2 * t)
>>> least_squares(misfit, np.array([1.0, 1.0])).x.round(6)
array([3., 2.])

The unknowns are one array of any shape, or a tuple of arrays, which f takes as so many tensors. Derivatives are exact,
and sparse where the function is: a plan is made on the first call (``result.plan``), with the options in
``jacobian=``. Importing ``torchjac`` does not import this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.utils._pytree import tree_leaves

from ._api import hessian_sparsity, plan_jacobian
from ._errors import InputError, OptionError
from ._operator import JacobianOperator
from ._options import JacobianOptions
from ._plan import JacobianPlan

__all__ = ["least_squares", "linear_operator", "minimize", "root", "solve_ivp"]

Array = npt.NDArray[np.float64]
Device = torch.device | str
Function = Callable[..., Any]

_DENSE = 250_000  # a matrix of so many numbers is as fast dense, and SciPy's dense solvers are the sturdier ones
_FULL = 0.2  # so much of a matrix being nonzero, it is kept dense


def least_squares(
    f: Function,
    x0: Any,
    *,
    jac: Literal["exact", "2-point", "3-point"] = "exact",
    jacobian: JacobianOptions | None = None,
    device: Device = "cpu",
    **options: Any,
) -> Any:
    """``scipy.optimize.least_squares`` for the residuals ``f(x)``, with their exact, sparse Jacobian.

    >>> import numpy as np, torch
    >>> from torchjac.scipy import least_squares
    >>> def rosenbrock(x):
    ...     return torch.cat([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])
    >>> least_squares(rosenbrock, np.zeros(5)).x.round(8)
    array([1., 1., 1., 1., 1.])

    Parameters
    ----------
    f: from tensors like ``x0`` to residuals, of any shape.
    x0: an array, or a tuple of arrays; ``result.x`` is the same.
    jac: ``"2-point"`` or ``"3-point"`` for SciPy's finite differences, which then get the pattern (``jac_sparsity``).
    jacobian: options of ``plan_jacobian``, such as ``{"compile": True}``.
    device: where f is evaluated, in float64.
    options: of SciPy, such as ``method``, ``loss`` (not with ``"lm"``), ``bounds``, ``x_scale``, ``verbose``.

    Raises
    ------
    InputError, OutputError, OptionError: f cannot be differentiated, or an option does not exist.
    """
    from scipy.optimize import least_squares as solve

    problem = _Problem(f, x0, device, jacobian)
    dense = problem.small() or options.get("method") == "lm"
    if jac == "exact":
        options["jac"] = problem.jac if dense else problem.sparse_jac
    else:
        options["jac"] = jac
        options.setdefault("jac_sparsity", None if dense else problem.plan.pattern.to_scipy().astype(float))
    return problem.result(solve(problem.fun, problem.x0, **options))


def root(
    f: Function,
    x0: Any,
    *,
    method: str = "hybr",
    jacobian: JacobianOptions | None = None,
    device: Device = "cpu",
    **options: Any,
) -> Any:
    """``scipy.optimize.root``: x with ``f(x) = 0``, as many equations as unknowns.

    >>> import numpy as np, torch
    >>> from torchjac.scipy import root
    >>> root(lambda x: torch.stack([x[0] + x[1] - 3, x[0] * x[1] - 2]), np.array([5.0, 1.0])).x.round(8)
    array([2., 1.])

    ``method="hybr"`` and ``"lm"`` get the dense Jacobian. ``"krylov"`` is for large sparse problems: it gets the sparse
    LU factors of the exact Jacobian as a preconditioner, anew at each step, which makes it Newton's method.

    Raises
    ------
    OptionError: another method, none of which has use for a Jacobian.
    InputError: f does not return as many numbers as it takes.
    """
    from scipy.optimize import root as solve

    problem = _Problem(f, x0, device, jacobian)
    m, n = problem.plan.shape
    if m != n:
        raise InputError(
            f"f returns {m} numbers for {n} unknowns",
            expected="as many equations as unknowns",
            instead="torchjac.scipy.least_squares(f, x0)",
        )
    if method in ("hybr", "lm"):
        return problem.result(solve(problem.fun, problem.x0, method=method, jac=problem.jac, **options))
    if method != "krylov":
        raise OptionError(
            f"method={method!r}",
            expected="'hybr', 'lm' or 'krylov'",
            why="the other methods of scipy.optimize.root take no Jacobian",
        )
    settings = dict(options.pop("options", None) or {})
    inner = {"inner_M": _inverse(problem), **settings.pop("jac_options", {})}
    settings["jac_options"] = inner
    return problem.result(solve(problem.fun, problem.x0, method="krylov", options=settings, **options))


def solve_ivp(
    f: Function,
    t_span: tuple[float, float],
    y0: Any,
    *,
    method: str = "BDF",
    jacobian: JacobianOptions | None = None,
    device: Device = "cpu",
    **options: Any,
) -> Any:
    """``scipy.integrate.solve_ivp`` for ``y' = f(t, y)``, with the Jacobian by y for the implicit methods.

    >>> import numpy as np, torch
    >>> from torchjac.scipy import solve_ivp
    >>> def van_der_pol(t, y):
    ...     return torch.stack([y[1], 1000 * (1 - y[0] ** 2) * y[1] - y[0]])
    >>> solution = solve_ivp(van_der_pol, (0, 1000), np.array([2.0, 0.0]))
    >>> solution.success, solution.y.shape[0]
    (True, 2)

    ``"BDF"`` and ``"Radau"`` get a sparse matrix where f is sparse, ``"LSODA"`` a dense one; explicit methods none.

    Parameters
    ----------
    f: from a time (a tensor without dimensions) and tensors like ``y0`` to the same shapes.
    y0: an array, or a tuple of arrays. ``solution.y`` is SciPy's, (n, times), ravelled.
    jacobian, device, options: as for ``least_squares``; options of SciPy, such as ``t_eval``, ``rtol``, ``events``.
    """
    from scipy.integrate import solve_ivp as solve

    problem = _Problem(f, y0, device, jacobian, time=float(t_span[0]))
    if method in ("BDF", "Radau", "LSODA"):
        dense = method == "LSODA" or problem.small()
        options["jac"] = problem.jac_at if dense else problem.sparse_jac_at
    return problem.result(solve(problem.fun_at, t_span, problem.x0, method=method, **options))


def minimize(
    f: Function,
    x0: Any,
    *,
    method: str = "trust-krylov",
    jacobian: JacobianOptions | None = None,
    device: Device = "cpu",
    **options: Any,
) -> Any:
    """``scipy.optimize.minimize`` for the scalar ``f(x)``, with its gradient, and its Hessian where the method has use.

    >>> import numpy as np, torch
    >>> from torchjac.scipy import minimize
    >>> def rosenbrock(x):
    ...     return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
    >>> minimize(rosenbrock, np.zeros(5)).x.round(6)
    array([1., 1., 1., 1., 1.])

    ``"Newton-CG"``, ``"trust-ncg"`` and ``"trust-krylov"`` get products with the Hessian, ``"trust-constr"`` a sparse
    Hessian, ``"trust-exact"`` and ``"dogleg"`` a dense one, all others the gradient alone.
    """
    from scipy.optimize import minimize as solve

    problem = _Scalar(f, x0, device, jacobian)
    if method in ("Newton-CG", "trust-ncg", "trust-krylov"):
        options["hessp"] = problem.hessp
    elif method in ("trust-constr", "trust-exact", "dogleg"):
        dense = method != "trust-constr" or problem.small()
        options["hess"] = problem.jac if dense else problem.sparse_jac
    if method not in ("Nelder-Mead", "Powell", "COBYLA", "COBYQA"):
        options["jac"] = problem.gradient
    return problem.result(solve(problem.value, problem.x0, method=method, **options))


def linear_operator(f: Function, x: Any, *, device: Device = "cpu") -> Any:
    """The Jacobian of f at x as a ``scipy.sparse.linalg.LinearOperator``, for ``lsqr``, ``gmres``, ``svds``, ``eigs``.

    >>> import numpy as np, torch
    >>> from torchjac.scipy import linear_operator
    >>> A = linear_operator(lambda x: x[1:] * x[:-1], np.arange(4.0))
    >>> A @ np.ones(4), A.T @ np.ones(3)
    (array([1., 3., 5.]), array([1., 2., 4., 2.]))
    """
    problem = _Problem(f, x, device, None)
    tensors = problem.tensors(problem.x0)
    return JacobianOperator(f, *tensors, argnums=tuple(range(len(tensors)))).to_scipy()


class _Problem:
    """f of tensors, seen by SciPy: flat NumPy vectors in and out; with ``time``, f(t, ...)."""

    def __init__(
        self, f: Function, x0: Any, device: Device, jacobian: JacobianOptions | None, time: float | None = None
    ) -> None:
        self._f, self._device, self._options = f, torch.device(device), jacobian or {}
        self._several = isinstance(x0, tuple)
        arrays = [_array(part) for part in (x0 if self._several else (x0,))]
        self._shapes = [array.shape for array in arrays]
        self.x0 = np.concatenate([array.reshape(-1) for array in arrays])
        self._time = time
        self._plan: JacobianPlan | None = None

    def tensors(self, x: Array) -> tuple[torch.Tensor, ...]:
        """The arguments of f at x; copies, because SciPy writes to its vectors."""
        whole = torch.tensor(x, dtype=torch.float64, device=self._device)
        parts = whole.split([math.prod(shape) for shape in self._shapes])
        return tuple(part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True))

    def arrays(self, x: Array) -> Any:
        """X in the shape of what was given."""
        arrays = tuple(part.cpu().numpy() for part in self.tensors(x))
        return arrays if self._several else arrays[0]

    def _args(self, x: Array, time: float | None) -> tuple[torch.Tensor, ...]:
        clock = () if time is None else (torch.tensor(time, dtype=torch.float64, device=self._device),)
        return (*clock, *self.tensors(x))

    @property
    def plan(self) -> JacobianPlan:
        """Made at x0, on first use."""
        if self._plan is None:
            self._plan = self._make_plan()
        return self._plan

    def _make_plan(self) -> JacobianPlan:
        first = 0 if self._time is None else 1
        argnums = tuple(range(first, first + len(self._shapes)))
        with torch.no_grad():
            return plan_jacobian(self._f, *self._args(self.x0, self._time), argnums=argnums, **self._options)

    def small(self) -> bool:
        """Whether a dense matrix is the better one."""
        m, n = self.plan.shape
        return m * n <= _DENSE or self.plan.pattern.nnz > _FULL * m * n

    def fun_at(self, time: float | None, x: Array) -> Array:
        """F(t, x), ravelled."""
        with torch.no_grad():
            out = self._f(*self._args(x, time))
        return np.concatenate([part.detach().cpu().double().numpy().reshape(-1) for part in tree_leaves(out)])

    def sparse_jac_at(self, time: float | None, x: Array) -> Any:
        """The Jacobian by x, a ``csr_array``."""
        with torch.no_grad():
            return self.plan.matrix(*self._args(x, time)).to_scipy()

    def jac_at(self, time: float | None, x: Array) -> Array:
        """The Jacobian by x, dense."""
        dense: Array = self.sparse_jac_at(time, x).toarray()
        return dense

    def fun(self, x: Array) -> Array:
        """F(x), ravelled."""
        return self.fun_at(None, x)

    def jac(self, x: Array) -> Array:
        """The Jacobian, dense."""
        return self.jac_at(None, x)

    def sparse_jac(self, x: Array) -> Any:
        """The Jacobian, a ``csr_array``."""
        return self.sparse_jac_at(None, x)

    def result(self, found: Any) -> Any:
        """SciPy's result, with x in the shape of x0, and the plan."""
        found.plan = self._plan
        if hasattr(found, "x"):
            found.x = self.arrays(found.x)
        return found


class _Scalar(_Problem):
    """A scalar f; its Jacobian is that of its gradient: the Hessian."""

    def __init__(self, f: Function, x0: Any, device: Device, jacobian: JacobianOptions | None) -> None:
        super().__init__(f, x0, device, jacobian)
        self._every = tuple(range(len(self._shapes)))
        self._slope = torch.func.grad(f, argnums=self._every)
        self._here: tuple[bytes, JacobianOperator] | None = None

    def _make_plan(self) -> JacobianPlan:
        args = self.tensors(self.x0)
        options: JacobianOptions = {
            "sparsity": hessian_sparsity(self._f, *args, argnums=self._every),
            "mode": "reverse",
            **self._options,
        }
        with torch.no_grad():
            return plan_jacobian(self._slope, *args, argnums=self._every, **options)

    def value(self, x: Array) -> float:
        """F(x)."""
        return float(self.fun(x)[0])

    def gradient(self, x: Array) -> Array:
        """(n,)."""
        parts = self._slope(*self.tensors(x))
        return np.concatenate([part.detach().cpu().numpy().reshape(-1) for part in parts])

    def hessp(self, x: Array, p: Array) -> Array:
        """H p; the gradient is evaluated once for all p at one x."""
        key = x.tobytes()
        if self._here is None or self._here[0] != key:
            self._here = key, JacobianOperator(self._slope, *self.tensors(x), argnums=self._every)
        operator = self._here[1]
        with torch.no_grad():
            out = operator.T @ torch.tensor(p, dtype=operator.dtype, device=operator.device)  # H is symmetric
        product: Array = out.cpu().numpy()
        return product


def _inverse(problem: _Problem) -> Any:
    """An operator that solves with the Jacobian at the point that Newton-Krylov is at."""
    from scipy.sparse import csc_array
    from scipy.sparse.linalg import LinearOperator, splu

    class Inverse(LinearOperator):  # type: ignore[misc]  # scipy has no types
        def __init__(self) -> None:
            super().__init__(np.float64, problem.plan.shape)
            self._solve: Any = None

        def setup(self, x: Array, f: Array, function: Any) -> None:
            self.update(x, f)

        def update(self, x: Array, f: Array) -> None:
            self._solve = splu(csc_array(problem.sparse_jac(x))).solve

        def _matvec(self, b: Array) -> Any:
            return self._solve(b)

    return Inverse()


def _array(x: Any) -> Array:
    array = np.asarray(x)
    if array.dtype == object or np.iscomplexobj(array):
        raise InputError(
            f"x0 is {type(x).__name__} of dtype {array.dtype}",
            expected="an array of real numbers, or a tuple of such arrays",
        )
    return array.astype(np.float64)
