"""The public functions of Jacobians and Hessians, each in a few lines over a plan."""

from __future__ import annotations

import os
from typing import Unpack

from torch.utils._pytree import PyTree

from .._base.words import UserFunction
from .._detection.detect import detect, detect_hessian
from .._function.flat import Argnums, FlatFunction, ordinary
from .._function.gradient import GradientOf
from .._matrices.pattern import SparsityPattern
from .._products.run import inside_transform
from .batch import BatchOptions, batch_plan
from .hessian import HessianPlan
from .inside_transform import by_torch_func, refuse_a_plan
from .jacobian import JacobianPlan
from .one_call import one_jacobian
from .options import HessianOptions, JacobianOptions, Options, OptionsOfHessian
from .saving import read


def jacobian_sparsity(f: UserFunction, *args: PyTree, argnums: Argnums = 0) -> SparsityPattern:
    """Return the pattern of the Jacobian of ``f``, (m, n): the entries that can be nonzero.

    >>> import torch, torchjac as tj
    >>> print(tj.jacobian_sparsity(lambda x: x.cumsum(0), torch.rand(4)))
    SparsityPattern(4 x 4, 10 entries, 62.5% dense, global)
      ┌────┐
      │#   │
      │##  │
      │### │
      │####│
      └────┘

    Rows are ravelled outputs, columns are ravelled inputs that are differentiated. f runs once (on copies of ``args``),
    differentiated in one random direction, while every op is followed. The pattern may hold more entries than the true
    one, never fewer; ``notes`` say where and why. Time and memory grow with the number of elements and entries, never
    with m x n.

    Parameters
    ----------
    f: maps tensors (or pytrees of tensors) to tensors (or pytrees).
    argnums: the arguments that count as inputs; a number, or a tuple of them.

    Raises
    ------
    InputError: an input is not a floating point tensor, or argnums is out of range.
    OutputError: f returns something that has no derivative.
    """
    with ordinary(args) as own:
        return detect(FlatFunction(f, own, argnums), own)


def hessian_sparsity(f: UserFunction, *args: PyTree, argnums: Argnums = 0) -> SparsityPattern:
    """Return the symmetric pattern of the Hessian of a scalar ``f``, (n, n): the entries that can be nonzero.

    >>> import torch, torchjac as tj
    >>> def chained(x):  # Rosenbrock
    ...     return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
    >>> tj.hessian_sparsity(chained, torch.rand(1000))
    SparsityPattern(1000 x 1000, 2,998 entries, 0.3% dense, global)

    Rows and columns are the ravelled inputs that are differentiated. The gradient is traced, so terms that are linear
    in x leave no entries.

    Raises
    ------
    OutputError: f returns anything but one scalar.
    InputError: an input is not a floating point tensor, or argnums is out of range.
    """
    with ordinary(args) as own:
        gradient = GradientOf(FlatFunction(f, own, argnums))
        return detect_hessian(gradient, FlatFunction(gradient, own, argnums), own)


def plan_jacobian(
    f: UserFunction, *args: PyTree, argnums: Argnums = 0, **options: Unpack[JacobianOptions]
) -> JacobianPlan:
    """Prepare the Jacobian of ``f`` once; the plan evaluates it at any inputs like ``args``.

    >>> import torch, torchjac as tj
    >>> def burgers(u):
    ...     return u * (torch.roll(u, -1) - torch.roll(u, 1)) / 2 + (torch.roll(u, -1) - 2 * u + torch.roll(u, 1))
    >>> plan = tj.plan_jacobian(burgers, torch.rand(999), layout=torch.sparse_csr)
    >>> plan
    JacobianPlan(999 x 999, 2,997 entries, 3 products, reverse)
    >>> J = plan(torch.rand(999))

    Parameters
    ----------
    f: maps tensors (or pytrees of tensors) to tensors (or pytrees).
    argnums: the arguments that are differentiated; a number, or a tuple of them.
    layout: ``torch.strided`` (default), ``sparse_coo``, ``sparse_csr``, ``sparse_csc``, ``sparse_bsr``, ``sparse_bsc``.
    blocksize: the size of a block for ``sparse_bsr`` and ``sparse_bsc``: (p, q), or one such pair for each input leaf,
        ``((2, 9), (2, 3))``. A block is stored if any of its entries can be nonzero.
    ravel: True for one (m, n) matrix over all leaves.
    mode: ``"forward"``, ``"reverse"``, ``"bidirectional"``, ``"accumulate"`` (no products, a program for entries), or
        ``"auto"`` for the one that is predicted to cost least; auto also gives up a mode whose results turn out wrong.
    sparsity: ``"detect"``, a pattern (ours, SciPy, torch) or None for a dense Jacobian.
    entries: ``"diagonal"`` or a pattern, to compute and store only these entries; None for all.
    has_aux: f returns (output, aux).
    check: ``"first"`` (again when integers, flags or index tensors among ``args`` change), ``"always"`` or False.
    memory: the memory that a call may take beside its result, in bytes or as ``"500MiB"``; None for a share of what is
        free.
    compile: True, or options of ``torch.compile``: one compiled program from the second call on; eager where a
        gradient is wanted.
    progress: True for a bar after a second, on a terminal or in a notebook.

    Notes
    -----
    The values have the smallest dtype that holds the dtypes of all inputs and outputs. Their gradients are compared
    once with reverse-over-reverse. f runs several times, so its side effects (statistics of a BatchNorm in training)
    happen several times. Where PyTorch refuses an op or gets it wrong, the plan takes another way, and a
    TorchjacWarning announces it once.

    Complex inputs and outputs are refused, as ``torch.func.jacrev`` does: a complex number has two derivatives, and
    conventions for one differ. Say which one is meant, by ``torch.view_as_real`` around f; the error has the line.
    Complex numbers inside f are fine.

    Keyword arguments are f's only through ``functools.partial(f, name=...)``. From several threads, plans are right
    as long as f draws no random numbers; forward products wait for one another.

    Raises
    ------
    InputError, OutputError: f or its arguments cannot be differentiated.
    PatternError: ``sparsity`` has the wrong shape.
    OptionError: an option does not exist, or ``memory`` does not hold a single product.
    """
    refuse_a_plan("plan_jacobian")
    return JacobianPlan(f, args, argnums, Options.parse(dict(options)))


def plan_hessian(
    f: UserFunction, *args: PyTree, argnums: Argnums = 0, **options: Unpack[HessianOptions]
) -> HessianPlan:
    """Prepare the Hessian of a scalar ``f`` once; the plan evaluates it at any inputs like ``args``.

    >>> import torch, torchjac as tj
    >>> def chained(x):  # Rosenbrock
    ...     return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
    >>> plan = tj.plan_hessian(chained, torch.rand(500), layout=torch.sparse_csr)
    >>> plan
    HessianPlan(500 x 500, 1,498 entries, 3 products, forward)
    >>> value, gradient, H = plan.value_grad_hessian(torch.rand(500))

    A Lagrangian is a function of x with its multipliers as further arguments; one plan serves all of them:

    >>> def lagrangian(x, multiplier):
    ...     return chained(x) + (multiplier * (x[1:] * x[:-1] - 1)).sum()
    >>> plan = tj.plan_hessian(lagrangian, torch.rand(500), torch.rand(499), uplo="lower")
    >>> rows, columns = plan.pattern.rows, plan.pattern.indices  # once
    >>> values = plan.values(torch.rand(500), torch.rand(499))  # in every iteration

    Parameters
    ----------
    f: maps tensors (or pytrees of tensors) to one real number in a tensor.
    argnums: the arguments that are differentiated; a tuple gives blocks nested as by ``torch.func.hessian``.
    uplo: ``"lower"`` or ``"upper"`` for one triangle of the (n, n) matrix with its diagonal, ``"full"`` for all.
    recovery: ``"direct"`` reads every entry off a product, ``"substitution"`` solves for some and needs fewer products;
        ``"auto"`` for the one that is predicted to be faster.
    mode: ``"forward"`` (over reverse), ``"reverse"`` (over reverse), or ``"auto"``: forward, unless it is clearly
        slower, or PyTorch has no forward formula of an op, or results or gradients through it turn out to be wrong.
    layout, ravel, sparsity, has_aux, check, memory, compile, progress: as for ``plan_jacobian``. A triangle in
        ``sparsity`` stands for both.

    Notes
    -----
    Terms that are linear in x leave no entries. The values are differentiable: third derivatives are checked once.
    A fused kernel without second derivative (attention) is replaced by the plain one, announced by a TorchjacWarning.

    Raises
    ------
    OutputError: f returns anything but one real number.
    InputError, PatternError, OptionError: as for ``plan_jacobian``.
    """
    refuse_a_plan("plan_hessian")
    return HessianPlan(f, args, argnums, OptionsOfHessian.parse(dict(options)))


def load_plan(path: str | os.PathLike[str], f: UserFunction) -> JacobianPlan | HessianPlan:
    """Return the plan that ``plan.save(path)`` wrote, for the same function: nothing is detected or colored again.

    >>> import torch, torchjac as tj
    >>> def f(x):
    ...     return x[1:] * x[:-1]
    >>> tj.plan_jacobian(f, torch.rand(5)).save("products.npz")
    >>> tj.load_plan("products.npz", f)
    JacobianPlan(4 x 5, 8 entries, 2 products, reverse)

    The file is data: loading it runs no code. The output and the pattern of f are compared with those of the file on
    the first call (``check="first"``).

    Raises
    ------
    FileError: the file is damaged, or of another version, or was made on a device that is not here.
    SignatureError: ``f`` does not take the arguments that the plan was made for.
    """
    saved = read(path, f)
    if isinstance(saved.options, OptionsOfHessian):
        return HessianPlan(f, saved.args, saved.argnums, saved.options, saved)
    return JacobianPlan(f, saved.args, saved.argnums, saved.options, saved)


def jacobian(f: UserFunction, *args: PyTree, argnums: Argnums = 0, **options: Unpack[JacobianOptions]) -> PyTree:
    """Return the Jacobian of ``f`` at ``args``: ``plan_jacobian(f, *args, ...)(*args)``, with the same options.

    >>> import torch, torchjac as tj
    >>> tj.jacobian(lambda x: x[1:] * x[:-1], torch.arange(4.0), layout=torch.sparse_csr).to_dense()
    tensor([[1., 0., 0., 0.],
            [0., 2., 1., 0.],
            [0., 0., 3., 2.]])

    Shapes and nesting are those of ``torch.func.jacrev``; with a sparse layout every block is a 2-D matrix over
    the ravelled output and input leaf. Keep a plan when the same function is differentiated again. A plan always knows
    the pattern; this function does not detect it where a dense result costs less than the detection, or behind an
    all-to-all layer, and then f runs once, if reverse mode is cheaper.
    """
    parsed = Options.parse(dict(options))
    if inside_transform():
        return by_torch_func(f, args, argnums, parsed)
    if "sparsity" in options:
        return JacobianPlan(f, args, argnums, parsed)(*args)
    return one_jacobian(f, args, argnums, parsed)


def hessian(f: UserFunction, *args: PyTree, argnums: Argnums = 0, **options: Unpack[HessianOptions]) -> PyTree:
    """Return the Hessian of a scalar ``f`` at ``args``: ``plan_hessian(f, *args, ...)(*args)``, with the same options.

    >>> import torch, torchjac as tj
    >>> tj.hessian(lambda x: (x[1:] * x[:-1] ** 2).sum(), torch.arange(4.0), layout=torch.sparse_csr).to_dense()
    tensor([[2., 0., 0., 0.],
            [0., 4., 2., 0.],
            [0., 2., 6., 4.],
            [0., 0., 4., 0.]])

    Shapes and nesting are those of ``torch.func.hessian``; with a sparse layout every block is a 2-D matrix over
    the ravelled leaves. Keep a plan when the same function is differentiated again.
    """
    if inside_transform():
        return by_torch_func(f, args, argnums, OptionsOfHessian.parse(dict(options)), hessian=True)
    return plan_hessian(f, *args, argnums=argnums, **options)(*args)


def batch_jacobian(
    f: UserFunction,
    *args: PyTree,
    argnums: Argnums = 0,
    batch_dims: int = 1,
    batched: bool | tuple[bool, ...] = True,
    **options: Unpack[BatchOptions],
) -> PyTree:
    r"""Return the Jacobian of every sample, (\*batch, \*out, \*in), where f maps (\*batch, \*in) to (\*batch, \*out).

    >>> import torch, torchjac as tj
    >>> network = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> x = torch.rand(5, 100, 3)
    >>> tj.batch_jacobian(network, x, batch_dims=2).shape
    torch.Size([5, 100, 2, 3])

    f runs on the whole batch at once, as it is (no vmap over f), and one product serves all samples: as many VJPs as a
    sample has outputs, or JVPs as it has inputs, whichever are fewer. The result is differentiable: a loss on it trains
    the parameters of f.

    Parameters
    ----------
    f: maps tensors (or pytrees) to tensors (or pytrees) that all begin with the batch dimensions.
    argnums: the arguments that are differentiated; a number, or a tuple of them.
    batch_dims: the number of dimensions that belong to the batch.
    batched: True or False for each argument; all samples share an argument that is not batched. The Jacobian by
        such an argument is (\*batch, \*out, \*shared), and takes a JVP for each of its elements.
    mode: ``"forward"``, ``"reverse"``, or ``"auto"`` for the fewest products.
    has_aux: f returns (output, aux), and the result is (J, aux).
    check: ``"first"`` (the first call of this f, told by identity, with such arguments), ``"always"``, or False.
    memory: the memory that a call may take beside its result, in bytes or as ``"500MiB"``.
    compile: True, or options of ``torch.compile``.

    Notes
    -----
    The check traces f on three samples along each batch dimension, to find ops that mix samples, and compares the
    result with one product over the whole batch. It is made once for an f and a signature, and again when a module
    changes between training and evaluation, if f is this module, closes over it or names it. A lambda that is made anew
    for each call is another f each time: keep it, or pass ``check=False``. Where the trace leaves a doubt, every call
    is checked.

    From 128 samples on (on a GPU, from 131,072) products run one after another: as fast as all at once, and in the
    memory of one.

    Raises
    ------
    InteractionError: samples are not independent; the error names two of them, and the op that mixes them.
    InputError, OutputError: an argument or output does not begin with the batch dimensions.
    DerivativeMismatchError: a derivative formula of PyTorch is wrong, and no other way is right.
    """
    return batch_plan(f, args, argnums, batch_dims, batched, dict(options))(*args)
