"""Where rules are registered, and the ops that say something about values rather than about v."""

from __future__ import annotations

from collections.abc import Callable

from .call import Call
from .relations import Relations

Rule = Callable[[Call], Relations | tuple[Relations, ...]]

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of the op families ``names``."""

    def register(function: Rule) -> Rule:
        for name in names:
            assert name not in RULES, f"two rules for {name}"
            RULES[name] = function
        return function

    return register


# Results that take shape, dtype and device from a tensor, but no value.
VALUE_FREE = frozenset(
    "zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty new_full "
    "new_empty_strided empty_strided _new_zeros_with_same_feature_meta _efficientzerotensor is_same_size "
    "_has_same_storage_numel zero bernoulli_ normal_ uniform_".split()
)

# Ops that hand a value to Python, or whose output's shape depends on values.
VALUE_READERS = frozenset(
    "_local_scalar_dense equal is_nonzero nonzero nonzero_static unique_dim _unique2 unique_consecutive".split()
)
