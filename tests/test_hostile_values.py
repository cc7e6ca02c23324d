"""Zeros, ties, singular and identity matrices, equal eigenvalues, wide ranges: every way against plain autograd there.

The lists in ``_tangent/delicate.py`` are what is measured here: an op on a list differs from plain autograd at some
value, an op on none does not. Then plans that were made at ordinary values are called at these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import pytest
import torch
from opinfo import Case, cases, entries, full_name
from oracles import dense_jacobian
from torch.utils._python_dispatch import TorchDispatchMode

import torchjac as tj
from torchjac._tangent.delicate import BATCH, BATCH_GRADIENT, FORWARD, FORWARD_GRADIENT, FUNCTIONAL

LISTED_FOR = "2.13"
D = torch.float64
Tensors = tuple[torch.Tensor, ...]
Function = Callable[..., Tensors]
measured = pytest.mark.skipif(not torch.__version__.startswith(LISTED_FOR), reason="the lists are for another version")
quiet = pytest.mark.filterwarnings("ignore")


# ---- values


def drawn(t: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.rand(t.shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def diagonal(t: torch.Tensor, first: tuple[float, ...]) -> torch.Tensor | None:
    if t.dim() < 2 or t.shape[-1] != t.shape[-2] or t.shape[-1] < 2:
        return None
    numbers = [*first, *range(2, 20)][: t.shape[-1]]
    return torch.diag_embed(torch.tensor(numbers, dtype=t.dtype)).expand(t.shape).clone()


def noisy(t: torch.Tensor | None) -> torch.Tensor | None:
    return None if t is None else t + 1e-15 * drawn(t, 1)


POINTS: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
    "zeros": torch.zeros_like,
    "half zeros": lambda t: torch.where(drawn(t, 2) < 0.5, 0.0, t),
    "ones": torch.ones_like,
    "ties": lambda t: torch.where(t > 0, 0.5, -0.5).to(t.dtype),
    "rising": lambda t: torch.linspace(-400, 400, t.numel(), dtype=t.dtype).reshape(t.shape),
    "wide": lambda t: (800 * drawn(t, 3) - 400).to(t.dtype),
    "identity": lambda t: diagonal(t, (1.0,) * 20),
    "nearly identity": lambda t: noisy(diagonal(t, (1.0,) * 20)),
    "equal pair": lambda t: diagonal(t, (1.0, 1.0)),
    "singular": lambda t: diagonal(t, (0.0, 1.0)),
}


def at(point: str, leaves: Tensors) -> Tensors | None:
    made = [POINTS[point](t) for t in leaves]
    if all(t is None for t in made):
        return None
    return tuple(t if new is None else new.to(t.dtype) for t, new in zip(leaves, made, strict=True))


# ---- ways: each gives (m, n)


def flat(f: Function) -> Callable[..., torch.Tensor]:
    return lambda *x: torch.cat([t.reshape(-1).to(D) for t in f(*x)])


def copies(x: Tensors) -> Tensors:
    return tuple(t.detach().clone().requires_grad_() for t in x)


def pulled(y: torch.Tensor, x: Tensors, u: torch.Tensor, graph: bool = False) -> torch.Tensor:
    if not y.requires_grad:
        return torch.zeros(sum(t.numel() for t in x), dtype=D)
    grads = torch.autograd.grad(y, x, u, retain_graph=True, create_graph=graph, allow_unused=True)
    return torch.cat([(torch.zeros_like(t) if g is None else g).reshape(-1) for g, t in zip(grads, x, strict=True)])


def plain(f: Function, x: Tensors, graph: bool = False) -> torch.Tensor:
    x = x if graph else copies(x)
    y = flat(f)(*x)
    return torch.stack([pulled(y, x, u, graph) for u in torch.eye(y.numel(), dtype=D)])


def batched(f: Function, x: Tensors, graph: bool = False) -> torch.Tensor:
    x = x if graph else copies(x)
    y = flat(f)(*x)
    return torch.vmap(lambda u: pulled(y, x, u, graph))(torch.eye(y.numel(), dtype=D))


def functional(f: Function, x: Tensors) -> torch.Tensor:
    y, vjp = torch.func.vjp(flat(f), *x)
    return torch.stack([torch.cat([g.reshape(-1) for g in vjp(u)]) for u in torch.eye(y.numel(), dtype=D)])


def forward(f: Function, x: Tensors) -> torch.Tensor:
    sizes = [t.numel() for t in x]

    def push(v: torch.Tensor) -> torch.Tensor:
        tangents = tuple(part.reshape(t.shape) for part, t in zip(v.split(sizes), x, strict=True))
        return torch.func.jvp(flat(f), x, tangents)[1]

    return torch.vmap(push, randomness="same")(torch.eye(sum(sizes), dtype=D)).T


def gradient_through(way: Callable[..., torch.Tensor], f: Function, x: Tensors) -> torch.Tensor:
    """Of the sum of J times random weights."""
    x = copies(x)
    J = way(f, x)
    total = (J * drawn(J, 4)).sum()
    return pulled(total, x, torch.ones((), dtype=D))[None]


WAYS: dict[str, Callable[[Function, Tensors], torch.Tensor]] = {
    "forward": forward,
    "batched": batched,
    "functional": functional,
    "gradient through forward": lambda f, x: gradient_through(forward, f, x),
    "gradient through batches": lambda f, x: gradient_through(lambda f, x: batched(f, x, True), f, x),
}


def reference(way: str, f: Function, x: Tensors) -> torch.Tensor:
    if way.startswith("gradient"):
        return gradient_through(lambda f, x: plain(f, x, True), f, x)
    return plain(f, x)


def same(got: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> bool:
    """In all rows that are finite: beside an infinite entry 0 * inf has no meaning."""
    rows = expected.isfinite().all(1)
    got, expected = got.detach()[rows], expected.detach()[rows]
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return bool(((got - expected).abs() <= tolerance * scale + 1e-12).all())


def differences(way: str, f: Function, leaves: Tensors, points: Iterator[str]) -> list[str]:
    """The points at which ``way`` is not what plain autograd gives, and rounding of x is not to blame."""
    return [point for point in points if (x := at(point, leaves)) is not None and differs(way, f, x)]


def differs(way: str, f: Function, x: Tensors, expected: torch.Tensor | None = None) -> bool:
    try:
        expected = reference(way, f, x) if expected is None else expected
        if same(WAYS[way](f, x), expected):
            return False
        moved = reference(way, f, tuple(t * (1 + 4e-16 * (drawn(t, 5) - 0.5)) for t in x))
    except Exception:  # what PyTorch refuses is wrong nowhere
        return False
    return same(moved, expected, 1e-8)


# ---- the lists are what is measured


class Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func._schema.name.removeprefix("aten::"))
        return func(*args, **(kwargs or {}))


def names(case: Case) -> set[str]:
    with torch.no_grad(), Names() as seen:
        case.f(*case.leaves)
    return seen.names


def foreign(case: Case) -> set[str]:
    return {name for name in names(case) if "::" in name}


def small(op: Any, numbers: int = 9) -> Iterator[Case]:
    for case in cases(op, samples=4):
        if sum(t.numel() for t in case.leaves) <= numbers:
            with torch.no_grad():
                size = sum(t.numel() for t in case.f(*case.leaves))
            if size <= numbers:
                yield case


FIRST = torch.zeros(1, 1, 1, 2, 2, dtype=torch.int64)
M = torch.tensor([[2.0, 0.3, 0.1], [0.3, 3.0, 0.2], [0.1, 0.2, 4.0]], dtype=D)
ALONE: dict[str, tuple[Function, Tensors]] = {
    "_cdist_forward": (lambda x: (torch.cdist(x, x[:2] + 1),), (M,)),
    "_linalg_det": (lambda x: (torch.linalg.det(x), x[:1, :1].det()), (M,)),
    "_linalg_eigh": (lambda x: tuple(torch.linalg.eigh(x)), (M,)),
    "_prelu_kernel": (lambda x: (torch.nn.functional.prelu(x, x[0, :1]),), (M,)),
    "atan2": (lambda x: (torch.atan2(x, x[0]),), (M,)),
    "cholesky_inverse": (lambda x: (torch.cholesky_inverse(x),), (M,)),
    "cumprod": (lambda x: (x[0].cumprod(0),), (M,)),
    "fmax": (lambda x: (torch.fmax(x[0], x[1]),), (M,)),
    "linalg_vector_norm": (lambda x: (x.norm(3, dim=1),), (M,)),
    "logcumsumexp": (lambda x: (x.logcumsumexp(1),), (M,)),
    "max_unpool2d": (lambda x: (torch.nn.functional.max_unpool1d(x[None], torch.zeros(1, 3, 3).long(), 2),), (M,)),
    "max_unpool3d": (
        lambda x: (torch.nn.functional.max_unpool3d(x[None, None, None, :2, :2], FIRST, 2),),
        (M,),
    ),
    "polar": (lambda x: (torch.view_as_real(torch.polar(x[0], x[1])),), (M,)),
    "std": (lambda x: (x.std(1),), (M,)),
    "triangular_solve": (lambda x: torch.triangular_solve(x[:, :1], x)[:1], (M,)),
}
LISTS = {
    "forward": FORWARD,
    "batched": BATCH,
    "functional": FUNCTIONAL,
    "gradient through forward": FORWARD_GRADIENT,
    "gradient through batches": BATCH_GRADIENT,
}


@measured
@quiet
@pytest.mark.parametrize(("way", "op"), [(way, op) for way, listed in LISTS.items() for op in sorted(listed)])
def test_an_op_on_a_list_differs_from_plain_autograd_at_some_value(way: str, op: str) -> None:
    f, x = ALONE[op]
    assert differences(way, f, x, iter(POINTS))


ELSEWHERE = {  # wrong where listed ops are, or at every value: the check of the first call sees that
    "nn.functional.gaussian_nll_loss": "clamps under no_grad, which forward mode ignores",
}


@measured
@quiet
def test_an_op_on_no_list_is_what_plain_autograd_gives() -> None:
    """A third of all ops, another one each day."""
    wrong, walked, third = [], 0, date.today().toordinal() % 3  # any day will do
    print(f"ops {third}, {third + 3}, ...")
    for op in entries()[third::3]:
        case = next(small(op), None)
        if case is None or full_name(op) in ELSEWHERE or foreign(case):
            continue
        walked += 1
        for point in ("half zeros", "rising", "equal pair"):
            x = at(point, case.leaves)
            expected = None if x is None else plain_or_none(case.f, x)
            if x is not None and expected is not None:
                found = {way for way in ("forward", "batched") if differs(way, case.f, x, expected)}
                wrong += [(full_name(op), way, point) for way in found if not names(case) & LISTS[way]]
    assert not wrong
    assert walked > 80


def plain_or_none(f: Function, x: Tensors) -> torch.Tensor | None:
    try:
        return plain(f, x)
    except Exception:  # not for such values
        return None


# ---- plans


def stable(f: Callable[..., torch.Tensor], x: torch.Tensor) -> torch.Tensor | None:
    """The Jacobian by plain autograd; None where rounding of x changes it, or where it is not finite."""
    try:
        J = dense_jacobian(f, (x,))
    except RuntimeError:  # f itself has no value there
        return None
    moved = dense_jacobian(f, (x * (1 + 4e-16 * (drawn(x, 5) - 0.5)),))
    scale = J.abs().max()
    return J if J.isfinite().all() and (J - moved).abs().max() <= 1e-8 * scale else None


def gradient(f: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda x: torch.autograd.grad(f(x), x, create_graph=True)[0] if f(x).requires_grad else torch.zeros_like(x)


JACOBIANS = sorted(FORWARD | BATCH)


@quiet
@pytest.mark.parametrize("op", JACOBIANS)
def test_a_plan_made_at_ordinary_values_is_right_at_others(op: str) -> None:
    f = flat(ALONE[op][0])
    plan = tj.plan_jacobian(f, M)
    plan(M)
    for point in POINTS:
        (x,) = at(point, (M,)) or (M,)
        expected = stable(f, x)
        if expected is not None:
            assert same(plan(x).reshape(expected.shape), expected, 1e-9), point


def symmetric(x: torch.Tensor) -> torch.Tensor:
    return (x + x.mT) / 2


ENERGIES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "det": torch.linalg.det,
    "slogdet": lambda x: torch.linalg.slogdet(x)[1],
    "logdet": torch.logdet,
    "inv": lambda x: torch.linalg.inv(x).pow(2).sum(),
    "eigh": lambda x: torch.linalg.eigh(symmetric(x))[0].exp().sum(),
    "eigvalsh": lambda x: torch.linalg.eigvalsh(symmetric(x)).pow(3).sum(),
    "svd": lambda x: torch.linalg.svdvals(x).pow(3).sum(),
    "norm": lambda x: x.norm(dim=1).sum(),
    "sinc": lambda x: torch.sinc(x).sum(),
    "logcumsumexp": lambda x: x.logcumsumexp(1).pow(2).sum(),
    "cholesky_inverse": lambda x: torch.cholesky_inverse(x).sum(),
    "prelu": lambda x: torch.nn.functional.prelu(x, x[0, :1]).pow(2).sum(),
    "polar": lambda x: torch.view_as_real(torch.polar(x[0], x[1])).pow(3).sum(),
    "cumprod": lambda x: x.cumprod(1).pow(2).sum(),
    "prod": lambda x: x.prod(),
    "std": lambda x: x.std(1).sum(),
    "det of a product": lambda x: torch.linalg.det(x.mT @ x),
}


@quiet
@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
@pytest.mark.parametrize("name", ENERGIES)
def test_a_hessian_is_that_of_plain_autograd_or_refused(name: str, mode: str) -> None:
    f, refused = ENERGIES[name], 0
    for point in POINTS:
        (x,) = at(point, (M,)) or (M,)
        expected = stable(gradient(f), x)
        if expected is None:
            continue
        try:
            got = tj.hessian(f, x, mode=mode).reshape(9, 9)
        except tj.DerivativeMismatchError:
            refused += 1
            continue
        assert same(got, expected, 1e-7), point
    assert refused == 0 or mode == "forward"


@quiet
@pytest.mark.parametrize("name", ["det", "logcumsumexp", "cholesky_inverse", "polar", "prelu"])
def test_the_plan_of_a_hessian_made_at_ordinary_values_is_right_at_others(name: str) -> None:
    f = ENERGIES[name]
    plan = tj.plan_hessian(f, M)
    plan(M)
    for point in POINTS:
        (x,) = at(point, (M,)) or (M,)
        expected = stable(gradient(f), x)
        if expected is not None:
            assert same(plan(x).reshape(9, 9), expected, 1e-7), point


I3 = torch.eye(3, dtype=D)


@quiet
def test_the_gradient_through_a_batch_of_determinants_at_the_identity() -> None:
    x = I3.expand(4, 3, 3).clone().requires_grad_()
    J = tj.batch_jacobian(torch.linalg.det, x)  # cofactors
    (got,) = torch.autograd.grad(J.pow(2).sum(), x)
    torch.testing.assert_close(got, 4 * I3.expand(4, 3, 3))


@quiet
def test_the_gradient_through_a_plan_is_right_at_the_identity_too() -> None:
    plan = tj.plan_jacobian(torch.linalg.det, M)
    for A in (M, I3):
        x = A.clone().requires_grad_()
        (got,) = torch.autograd.grad(plan(x).pow(2).sum(), x)
        y = A.clone().requires_grad_()
        (expected,) = torch.autograd.grad(dense_jacobian(torch.linalg.det, (y,), create_graph=True).pow(2).sum(), y)
        torch.testing.assert_close(got, expected)


@quiet
def test_the_gradient_through_cumprod_with_a_zero() -> None:
    plan = tj.plan_jacobian(lambda x: x.cumprod(0), torch.rand(5, dtype=D))
    for numbers in ([1.0, 2, 3, 4, 5], [1.0, 0, 3, 0, 5]):
        x = torch.tensor(numbers, dtype=D, requires_grad=True)
        (got,) = torch.autograd.grad(plan(x).pow(2).sum(), x)
        y = x.detach().clone().requires_grad_()
        rows = dense_jacobian(lambda x: x.cumprod(0), (y,), create_graph=True)
        torch.testing.assert_close(got, torch.autograd.grad(rows.pow(2).sum(), y)[0])


@quiet
def test_every_gradient_through_forward_mode_that_was_asked_for_is_checked() -> None:
    plan = tj.plan_jacobian(lambda x: x.cumprod(0), torch.rand(5, dtype=D), mode="forward")
    plan(torch.rand(5, dtype=D, requires_grad=True))
    with pytest.raises(tj.DerivativeMismatchError):
        plan(torch.tensor([1.0, 0, 3, 0, 5], dtype=D, requires_grad=True))


@quiet
def test_hessian_vector_products_of_a_determinant_at_the_identity() -> None:
    A = tj.plan_hessian(torch.linalg.det, I3).operator(I3)
    v = drawn(I3, 7).reshape(-1)
    expected = dense_jacobian(gradient(torch.linalg.det), (I3,)) @ v
    torch.testing.assert_close(A @ v, expected)


RISING = torch.linspace(-400, 400, 6, dtype=D)


def prefixes(x: torch.Tensor) -> torch.Tensor:
    return x.logcumsumexp(0)


@quiet
def test_forward_mode_that_was_asked_for_is_checked_in_every_call() -> None:
    plan = tj.plan_jacobian(prefixes, torch.rand(6, dtype=D), mode="forward")
    with pytest.warns(tj.TorchjacWarning, match="logcumsumexp.*every call is checked"):
        plan(torch.rand(6, dtype=D))
    with pytest.raises(tj.DerivativeMismatchError):
        plan(RISING)


@quiet
@pytest.mark.parametrize("sparsity", [None, torch.ones(6, 6).tril()])
def test_ops_are_known_without_detection(sparsity: torch.Tensor | None, tmp_path: Any) -> None:
    plan = tj.plan_jacobian(prefixes, torch.rand(6, dtype=D), sparsity=sparsity, check=False)
    plan.save(tmp_path / "plan.npz")
    for each in (plan, tj.load_plan(tmp_path / "plan.npz", prefixes)):
        torch.testing.assert_close(each(RISING), dense_jacobian(prefixes, (RISING,)))


def test_a_program_of_such_an_op_is_refused_by_name() -> None:
    with pytest.warns(tj.TorchjacWarning, match="logcumsumexp"):
        tj.plan_jacobian(lambda x: prefixes(x) ** 2, torch.rand(6, dtype=D), mode="accumulate")


def test_a_nan_that_plain_autograd_does_not_have_is_no_agreement() -> None:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(x: torch.Tensor) -> torch.Tensor:
            return 2 * x

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None: ...

        @staticmethod
        def backward(ctx: Any, g: torch.Tensor) -> torch.Tensor:
            return 2 * g

        @staticmethod
        def jvp(ctx: Any, t: torch.Tensor) -> torch.Tensor:
            return t * float("nan")

        generate_vmap_rule = True

    with pytest.raises(tj.DerivativeMismatchError, match="is nan"):
        tj.jacobian(lambda x: Wrong.apply(x), torch.rand(4, dtype=D), mode="forward")
