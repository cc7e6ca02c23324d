"""Rules of custom ops."""

from __future__ import annotations

import pytest
import torch

import torchjac as tj
from torchjac.relations import Mix, Pointwise


@torch.library.custom_op("torchjac_tests::row_sums", mutates_args=())
def row_sums(x: torch.Tensor) -> torch.Tensor:
    return (x * x).sum(1)


@torch.library.custom_op("torchjac_tests::row_sums_backward", mutates_args=())
def row_sums_backward(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return 2 * grad[:, None] * x


row_sums.register_autograd(
    lambda ctx, grad: row_sums_backward(grad, *ctx.saved_tensors),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


def test_a_registered_rule_says_better():
    x = torch.rand(3, 2, dtype=torch.float64)
    dense = tj.jacobian_sparsity(row_sums, x)
    assert dense.nnz == 18
    assert any("row_sums_backward" in note.op for note in dense.notes)
    tj.register_rule("torchjac_tests::row_sums_backward")(lambda call: [Mix(call["grad"], dims=(0, None))])
    assert tj.jacobian_sparsity(row_sums, x) == tj.jacobian_sparsity(lambda x: (x * x).sum(1), x)


@pytest.mark.parametrize(
    ("name", "text"), [("row_sums", "mylib::row_sums"), ("aten::mm", "a second rule for aten::mm")]
)
def test_names_without_namespace_and_second_rules_are_refused(name, text):
    with pytest.raises(tj.OptionError, match=text):
        tj.register_rule(name)(lambda call: [Pointwise(call["x"])])
