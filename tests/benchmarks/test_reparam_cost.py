"""A small sample of the benchmark of training costs: every block in both modes, next to the plain network."""

from itertools import product
from typing import get_args

import pytest

from benchmarks import reparam_cost
from steps.reparam.branches import BLOCKS
from steps.reparam.expand import Mode


def test_every_block_and_mode_is_measured_and_online_keeps_what_the_plain_network_keeps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reparam_cost, "BOUNDED", {"repvgg_nano": "repvgg"})
    monkeypatch.setattr(reparam_cost, "PIXELS", 16)
    monkeypatch.setattr(reparam_cost, "BATCH", 4)
    memory, seconds = reparam_cost._measured("repvgg_nano", rounds=1)
    forms = {f"{block} {mode}" for block, mode in product(BLOCKS, get_args(Mode))}
    assert memory.keys() == seconds.keys() == forms
    for block in BLOCKS:
        assert memory[f"{block} online"] <= reparam_cost.MAX_RATIO < memory[f"{block} branch"]
        assert 0.1 < seconds[f"{block} online"] < 100  # a step this small cannot be measured more precisely
