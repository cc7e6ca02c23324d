"""The contents page: what is public, and that all of it is documented."""

from __future__ import annotations

import importlib.metadata
import inspect

import torchjac as tj

VERBS = (
    "batch_jacobian functional hessian hessian_sparsity jacobian jacobian_of jacobian_sparsity plan_hessian "
    "plan_jacobian load_plan write_jacobian check_jacobian color register_rule show_versions".split()
)
OBJECTS = "BlockMatrix Coloring HessianPlan JacobianOperator JacobianPlan Note SparseMatrix SparsityPattern".split()
ERRORS = (
    "DerivativeMismatchError FileError InputError InteractionError OptionError OutputError PatternError SignatureError "
    "MemoryLimitError RankError StalePatternError TorchjacError TorchjacWarning".split()
)


def public() -> list[str]:
    return sorted(name for name in dir(tj) if name[0] != "_" and not inspect.ismodule(getattr(tj, name)))


def test_the_public_names_are_these():
    assert set(VERBS + OBJECTS + ERRORS) == set(public())


def test_every_public_name_has_a_docstring_and_every_method_too():
    for name in public():
        thing = getattr(tj, name)
        assert thing.__doc__, name
        if inspect.isclass(thing):
            for member, value in vars(thing).items():
                if member[0] != "_" and (inspect.isfunction(value) or isinstance(value, property)):
                    assert value.__doc__, f"{name}.{member}"


def test_the_attributes_of_a_plan_and_a_pattern_that_others_build_on():
    plan = "pattern coloring mode num_products explain values value_and_jacobian check matrix operator save report plot"
    for name in plan.split():
        assert name in dir(tj.JacobianPlan) or name in (tj.JacobianPlan.__doc__ or ""), name
        assert name in dir(tj.HessianPlan) or name in (tj.HessianPlan.__doc__ or ""), name
    pattern = "shape nnz crow_indices col_indices T scope notes to_scipy to_dense from_scipy from_dense from_coo plot"
    for name in pattern.split():
        assert name in dir(tj.SparsityPattern) or name in (tj.SparsityPattern.__doc__ or ""), name
    assert "plot" in dir(tj.Coloring)


def test_the_version_is_the_one_installed():
    try:
        installed = importlib.metadata.version("torchjac")
    except importlib.metadata.PackageNotFoundError:
        installed = "0+unknown"
    assert tj.__version__ == installed
