"""The registry of rules, and lists of ops that matter for values rather than for derivatives."""

from __future__ import annotations

from collections.abc import Callable

from .._base.errors import OptionError
from .call import Call
from .relations import Along, Relations

Rule = Callable[[Call], Relations | tuple[Relations, ...]]

RULES: dict[str, Rule] = {}

# For an op whose second output is an index computed from values: the places along its dimension among which it chose.
CHOICES: dict[str, Callable[[Call], Along]] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of the op families ``names``."""

    def register(function: Rule) -> Rule:
        for name in names:
            assert name not in RULES, f"two rules for {name}"
            RULES[name] = function
        return function

    return register


def register_rule(name: str) -> Callable[[Rule], Rule]:
    """Say how a custom op, linear in the tensors that carry derivatives, moves dependence.

    >>> import torch, torchjac as tj
    >>> from torchjac.relations import Mix
    >>> @tj.register_rule("mylib::row_sums_backward")
    ... def row_sums_backward(call):  # grad (i,) -> (i, j): new columns
    ...     return [Mix(call["grad"], dims=(0, None))]

    The rule is given a ``Call`` (its arguments by name, ``call["grad"]``; ``call.depends(t)`` tells whether a tensor
    carries derivatives; ``call.out`` is the result) and answers with relations, or with a tuple of them for an op with
    several outputs. Without a rule every output is taken to depend on all inputs: right, but dense.

    Parameters
    ----------
    name: ``"namespace::op"``, without overload; in-place and ``out=`` forms use the same rule.

    Raises
    ------
    OptionError: the name has no namespace, or has a rule already.
    """
    if name.count("::") != 1:
        raise OptionError(f"the op name {name!r}", expected="'namespace::op'", instead=f"'mylib::{name}'")
    key = name.removeprefix("aten::")
    if key in RULES:
        raise OptionError(f"a second rule for {name}", expected="an op that has none yet")
    return rule(key)


# Ops whose results take shape, dtype and device from a tensor, but no value.
VALUE_FREE = frozenset(
    "zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty new_full "
    "new_empty_strided empty_strided _new_zeros_with_same_feature_meta _efficientzerotensor is_same_size "
    "_has_same_storage_numel zero bernoulli_ normal_ uniform_".split()
)

# Ops that hand a value to Python, or whose output's shape depends on values, as users know them.
VALUE_READERS = {
    "_local_scalar_dense": "item",
    "equal": "equal",
    "is_nonzero": "is_nonzero",
    "nonzero": "nonzero",
    "nonzero_static": "nonzero_static",
    "unique_dim": "unique",
    "_unique2": "unique",
    "unique_consecutive": "unique_consecutive",
}

# Ops with a forward formula that computes less than their backward does: cholesky reads a symmetric derivative only
# from one side, scatter_reduce with reduce="prod" drops the tangent.
HALF_FORWARD = frozenset({"linalg_cholesky_ex", "scatter_reduce prod"})
