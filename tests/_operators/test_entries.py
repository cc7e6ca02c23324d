"""Which products hold the entries that are asked for: each is alone in its product, and products are few."""

from __future__ import annotations

import numpy as np
import pytest
from internals import SparsityPattern, fewest_lines, fewest_products


def random_case(seed, share):
    rng = np.random.default_rng(seed)
    dense = rng.random((17, 23)) < share
    pattern = SparsityPattern.from_coo(*np.nonzero(dense), dense.shape)
    wanted = rng.random(pattern.nnz) < rng.choice([0.1, 0.5, 1.0])
    wanted[0] = True  # at least one, as where it is called
    return pattern, wanted


@pytest.mark.parametrize("share", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_every_wanted_entry_is_alone_in_its_product(seed, share):
    pattern, wanted = random_case(seed, share)
    lanes = fewest_products(pattern, wanted)
    forward = lanes.direction == "forward"
    members, lines = (pattern.indices, pattern.rows) if forward else (pattern.rows, pattern.indices)
    places = [(int(line), int(color)) for line, color in zip(lines, lanes.colors[members], strict=True)]
    for place, asked in zip(places, wanted, strict=True):
        assert not asked or (place[1] >= 0 and places.count(place) == 1)
    assert lanes.count == len({color for (_, color), asked in zip(places, wanted, strict=True) if asked})


def test_lines_are_taken_in_the_direction_where_they_are_fewer():
    assert fewest_lines((5, 5), np.array([1, 1, 1]), np.array([0, 2, 4])).direction == "reverse"
    assert fewest_lines((5, 5), np.array([0, 2, 4]), np.array([3, 3, 3])).count == 1


def test_a_diagonal_of_a_full_matrix_takes_a_product_for_each_entry():
    full = SparsityPattern.from_dense(np.ones((4, 4)))
    assert fewest_products(full, full.rows == full.indices).count == 4
