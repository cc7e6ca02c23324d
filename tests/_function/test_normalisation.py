"""Normalisations by their definition equal PyTorch's, whoever calls them and however."""

from __future__ import annotations

import pytest
import torch
from oracles import assert_close
from torch import nn
from torch.nn import functional as F

from torchjac._function.normalisation import ElementaryNormalisations

W, B = torch.rand(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)
MEAN, VAR = torch.rand(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64)

CALLS = {
    "layer norm": lambda x: F.layer_norm(x, (3, 4), eps=0.1),
    "layer norm with weights": lambda x: F.layer_norm(x.mT, (3,), W, B),
    "torch.layer_norm": lambda x: torch.layer_norm(x.mT, (3,), W, B, 1e-3),
    "layer module": nn.LayerNorm((3, 4)).double(),
    "batch norm": lambda x: F.batch_norm(x, None, None, W, B, training=True),
    "batch norm with given statistics": lambda x: F.batch_norm(x, MEAN, VAR, W, B),
    "torch.batch_norm": lambda x: torch.batch_norm(x, W, B, None, None, True, 0.1, 1e-3, True),
    "instance norm": lambda x: F.instance_norm(x, weight=W, bias=B),
    "torch.instance_norm": lambda x: torch.instance_norm(x, W, B, None, None, True, 0.1, 1e-3, True),
    "instance norm with given statistics": lambda x: F.instance_norm(x, MEAN, VAR, W, B, use_input_stats=False),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_definition_gives_the_same(name):
    x = torch.rand(2, 3, 4, dtype=torch.float64)
    mode = ElementaryNormalisations()
    with mode:
        got = CALLS[name](x)
    assert mode.met
    assert_close(got, CALLS[name](x))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(3), nn.InstanceNorm1d(3, track_running_stats=True)])
def test_statistics_are_updated_as_ever(norm):
    x, start = torch.rand(2, 3, 4), {k: v.clone() for k, v in norm.state_dict().items()}
    expected, after = norm(x), {k: v.clone() for k, v in norm.state_dict().items()}
    norm.load_state_dict(start)
    with ElementaryNormalisations():
        assert_close(norm(x), expected)
    for key, value in norm.state_dict().items():
        assert_close(value, after[key])


def test_nothing_to_rewrite():
    mode = ElementaryNormalisations()
    with mode:
        torch.rand(3).sin() + F.relu(torch.rand(3))
    assert not mode.met
