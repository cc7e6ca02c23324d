"""The public plan class of Hessians: a Jacobian plan of grad f, which also returns the value and the gradient of f."""

from __future__ import annotations

from torch.utils._pytree import PyTree

from .._base.errors import InputError, OptionError
from .._base.random_state import RandomState
from .._base.words import Args, UserFunction
from .._function.flat import Argnums, FlatFunction
from .._function.gradient import GradientOf
from .jacobian import JacobianPlan, plan_for
from .kinds.hessian import Hessian, gradient_of
from .kinds.jacobian import SomeEntries
from .kinds.kind import Kind
from .options import OptionsOfHessian
from .saving import Saved


class HessianPlan(JacobianPlan):
    """A prepared Hessian: ``plan(*args)`` evaluates it at any ``args`` like those that the plan was made with.

    >>> import torch, torchjac as tj
    >>> plan = tj.plan_hessian(lambda x: (x[1:] * x[:-1] ** 2).sum(), torch.rand(4), uplo="lower")
    >>> plan.num_products, plan.pattern.nnz
    (2, 6)
    >>> plan.pattern.rows.tolist(), plan.pattern.indices.tolist()
    ([0, 1, 1, 2, 2, 3], [0, 0, 1, 1, 2, 2])
    >>> plan.values(torch.arange(4.0))
    tensor([2., 0., 4., 2., 6., 4.])

    It is the plan of the Jacobian of the gradient, and has all methods of a Jacobian plan.

    Attributes
    ----------
    pattern: the (n, n) SparsityPattern of the stored entries: all, or one triangle.
    coloring: the symmetric coloring of all entries; None for a dense Hessian.
    mode: "forward" (forward-over-reverse) or "reverse" (reverse-over-reverse).
    num_products: the number of Hessian-vector products in one call.
    """

    options: OptionsOfHessian

    def __init__(
        self,
        f: UserFunction,
        args: Args,
        argnums: Argnums,
        options: OptionsOfHessian,
        saved: Saved | None = None,
    ) -> None:
        scalar = FlatFunction(f, args, argnums, options.has_aux)
        _refuse_complex(scalar)
        _refuse_a_triangle_of_some(options)
        gradient = FlatFunction(GradientOf(scalar), args, argnums, options.has_aux)
        gradient.source = f
        kind: Kind = Hessian() if options.entries is None else SomeEntries(Hessian())
        self._take_over(plan_for(kind, gradient, args, options, saved))

    def value_grad_hessian(self, *args: PyTree) -> tuple[PyTree, PyTree, PyTree]:
        """Return f(*args), its gradient and its Hessian; with has_aux, f(*args) is the pair (value, aux).

        All three belong to the same random numbers. Beside the Hessian this takes one evaluation of the gradient, which
        gives the value too.
        """
        draws = RandomState(self._function.device)
        hessian = self.assembled(self.values(*args))
        with draws.again():
            value, gradient, aux = gradient_of(self._function).with_value(args)
        return ((value, aux) if self.options.has_aux else value), gradient, hessian


def _refuse_a_triangle_of_some(options: OptionsOfHessian) -> None:
    if options.entries is not None and options.uplo != "full":
        raise OptionError(
            f"entries= with uplo={options.uplo!r}",
            expected="one of the two",
            why="entries= says already which entries are stored",
            instead="entries=pattern with the entries of that triangle alone",
        )


def _refuse_complex(scalar: FlatFunction) -> None:
    for leaf in scalar.inputs:
        if leaf.dtype.is_complex:
            raise InputError(
                f"{leaf} is complex",
                expected="real inputs",
                why="a complex function has a derivative by real and one by imaginary parts, and conventions differ",
                instead="lambda x: f(torch.view_as_complex(x)), with x = torch.view_as_real(z)",
            )
