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

from typing import TYPE_CHECKING, Any, Literal

from .._base.errors import InputError, OptionError
from .._operators.jacobian import JacobianOperator
from .._plan.options import HessianOptions, JacobianOptions
from .problem import Device, Function, Problem, ScalarProblem, Start, inverse

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult
    from scipy.sparse.linalg import LinearOperator

__all__ = ["least_squares", "linear_operator", "minimize", "root", "solve_ivp"]


def least_squares(
    f: Function,
    x0: Start,
    *,
    jac: Literal["exact", "2-point", "3-point"] = "exact",
    jacobian: JacobianOptions | None = None,
    device: Device = "cpu",
    **options: Any,
) -> OptimizeResult:
    """Run ``scipy.optimize.least_squares`` for the residuals ``f(x)``, with their exact, sparse Jacobian.

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

    _refuse("least_squares", options)
    problem = Problem(f, x0, device, jacobian)
    dense = problem.small() or options.get("method") == "lm"
    if jac == "exact":
        options["jac"] = problem.jac if dense else problem.sparse_jac
    else:
        options["jac"] = jac
        options.setdefault("jac_sparsity", None if dense else problem.plan.pattern.to_scipy().astype(float))
    return problem.result(solve(problem.fun, problem.x0, **options))


def root(
    f: Function,
    x0: Start,
    *,
    method: str = "hybr",
    jacobian: JacobianOptions | None = None,
    device: Device = "cpu",
    **options: Any,
) -> OptimizeResult:
    """Run ``scipy.optimize.root``: find x with ``f(x) = 0``, for as many equations as unknowns.

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

    _refuse("root", options)
    problem = Problem(f, x0, device, jacobian)
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
    inner = {"inner_M": inverse(problem), **settings.pop("jac_options", {})}
    settings["jac_options"] = inner
    return problem.result(solve(problem.fun, problem.x0, method="krylov", options=settings, **options))


def solve_ivp(
    f: Function,
    t_span: tuple[float, float],
    y0: Start,
    *,
    method: str = "BDF",
    jacobian: JacobianOptions | None = None,
    device: Device = "cpu",
    **options: Any,
) -> OptimizeResult:
    """Run ``scipy.integrate.solve_ivp`` for ``y' = f(t, y)``, with the Jacobian by y for the implicit methods.

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

    _refuse("solve_ivp", options)
    problem = Problem(f, y0, device, jacobian, time=float(t_span[0]))
    if method in ("BDF", "Radau", "LSODA"):
        dense = method == "LSODA" or problem.small()
        options["jac"] = problem.jac_at if dense else problem.sparse_jac_at
    return problem.result(solve(problem.fun_at, t_span, problem.x0, method=method, **options))


def minimize(
    f: Function,
    x0: Start,
    *,
    method: str | None = None,
    hessian: HessianOptions | None = None,
    device: Device = "cpu",
    **options: Any,
) -> OptimizeResult:
    """Run ``scipy.optimize.minimize`` for the scalar ``f(x)``, with its gradient, and its Hessian if that is of use.

    >>> import numpy as np, torch
    >>> from torchjac.scipy import minimize
    >>> def rosenbrock(x):
    ...     return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
    >>> minimize(rosenbrock, np.zeros(5)).x.round(6)
    array([1., 1., 1., 1., 1.])

    The method is ``"trust-krylov"``; with ``bounds`` it is ``"L-BFGS-B"``, and with ``constraints`` ``"SLSQP"``, as in
    SciPy. ``"Newton-CG"``, ``"trust-ncg"`` and ``"trust-krylov"`` get products with the Hessian, ``"trust-constr"`` a
    sparse Hessian, ``"trust-exact"`` and ``"dogleg"`` a dense one, all others the gradient alone. ``hessian``: options
    of ``plan_hessian``.
    """
    from scipy.optimize import minimize as solve

    _refuse("minimize", options, "jac", "hess", "hessp")
    method = _method_for(method, options)
    problem = ScalarProblem(f, x0, device, hessian)
    if method in ("Newton-CG", "trust-ncg", "trust-krylov"):
        options["hessp"] = problem.hessp
    elif method in ("trust-constr", "trust-exact", "dogleg"):
        dense = method != "trust-constr" or problem.small()
        options["hess"] = problem.jac if dense else problem.sparse_jac
    if method not in ("Nelder-Mead", "Powell", "COBYLA", "COBYQA"):
        options["jac"] = problem.gradient
    return problem.result(solve(problem.value, problem.x0, method=method, **options))


_WITH_BOUNDS = frozenset(
    ("Nelder-Mead", "L-BFGS-B", "TNC", "SLSQP", "Powell", "trust-constr", "COBYLA", "COBYQA")  # as SciPy documents
)
_WITH_CONSTRAINTS = frozenset(("COBYLA", "COBYQA", "SLSQP", "trust-constr"))


def _method_for(method: str | None, options: dict[str, Any]) -> str:
    """Return the method to run; OptionError where the one that was asked for would ignore bounds or constraints."""
    bounded, constrained = options.get("bounds") is not None, bool(options.get("constraints", ()))
    if method is None:
        return "SLSQP" if constrained else "L-BFGS-B" if bounded else "trust-krylov"
    for given, name, able in (
        (constrained, "constraints", _WITH_CONSTRAINTS),
        (bounded, "bounds", _WITH_BOUNDS),
    ):
        if given and method not in able:
            raise OptionError(
                f"{name}= with method={method!r}",
                expected=f"one of {', '.join(sorted(able))}",
                why=f"SciPy's {method} ignores {name}, with a warning, and returns a point outside of them",
                instead="method='trust-constr', or no method",
            )
    return method


def _refuse(solver: str, options: dict[str, Any], *derivatives: str) -> None:
    """Raise OptionError for what is SciPy's and would not reach f, or would take the place of exact derivatives."""
    if options.get("args"):
        raise OptionError(
            f"args= of scipy's {solver}",
            expected="f with all its other arguments fixed",
            why="f gets the unknowns as tensors, and nothing else",
            instead="functools.partial(f, ...), or lambda x: f(x, other)",
        )
    for name in derivatives:
        if name in options:
            raise OptionError(
                f"{name}= of scipy's {solver}",
                expected=f"no {name}: the derivatives of f are exact, and come from a plan",
                instead=f"scipy.optimize.{solver} itself, for derivatives of your own",
            )


def linear_operator(f: Function, x: Start, *, device: Device = "cpu") -> LinearOperator:
    """Return the Jacobian of f at x as a ``scipy.sparse.linalg.LinearOperator``: for ``lsqr``, ``gmres``, ``svds``.

    >>> import numpy as np, torch
    >>> from torchjac.scipy import linear_operator
    >>> A = linear_operator(lambda x: x[1:] * x[:-1], np.arange(4.0))
    >>> A @ np.ones(4), A.T @ np.ones(3)
    (array([1., 3., 5.]), array([1., 2., 4., 2.]))
    """
    problem = Problem(f, x, device, None)
    tensors = problem.tensors(problem.x0)
    return JacobianOperator(f, *tensors, argnums=tuple(range(len(tensors)))).to_scipy()
