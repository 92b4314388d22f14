"""Units: images that share a group or their bytes form one unit, along any chain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.splitting.ledger import content_keys, group_keys
from steps.splitting.units import least_connected, shuffled, units_of
from tests.images.rows import manifest


@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2))))
)
@settings(max_examples=100, deadline=None)
def test_connected_nodes_share_their_least_node(graph: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = graph
    expected = list(range(count))
    for _ in range(count):
        for one, other in edges:
            expected[one] = expected[other] = min(expected[one], expected[other])
    first, second = np.array(edges, np.int64).reshape(-1, 2).T
    assert least_connected(first, second, count).tolist() == expected


def test_a_chain_of_a_hundred_thousand_is_one_unit() -> None:
    nodes = np.random.default_rng(0).permutation(100_000)
    assert (least_connected(nodes[1:], nodes[:-1], len(nodes)) == 0).all()


@pytest.mark.parametrize(
    ("contents", "groups", "units"),
    [
        ("abc", [None, None, None], 3),
        ("aab", [None, None, None], 2),
        ("abcd", ["x", "x", "y", None], 3),
        ("abbc", ["x", "x", "y", "y"], 1),  # a copy joins two groups
        ("abbc", ["x", "x", None, None], 2),  # a copy joins a single image to a group
    ],
)
def test_groups_and_copies_make_units(contents: str, groups: list[str | None], units: int) -> None:
    images = manifest([0] * len(contents), list(contents), groups)
    unit_I, key_U = units_of(content_keys(images), *group_keys(images))
    assert len(key_U) == units == len(set(unit_I.tolist()))


def test_no_two_keys_share_a_rank() -> None:
    keys = np.arange(10_000, dtype=np.uint64)
    assert len(set(shuffled(keys, seed=3).tolist())) == len(keys)
    assert (shuffled(keys, seed=3) != shuffled(keys, seed=4)).all()
