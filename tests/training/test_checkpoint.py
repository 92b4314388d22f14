"""Checkpoints: found by all that matters, whole or not there, and tidied up."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from steps.training.checkpoint import (
    KEPT_TRAININGS,
    discard_finished,
    discard_old,
    fingerprint,
    load_last,
    mark_finished,
    save_best,
    save_last,
)
from steps.training.history import EpochRow, Progress
from steps.training.optimizer import sgd

PLACE = Progress(2, 7, 1 / 3, 1, 0.1 + 0.2, 1 / 9, [EpochRow(1, 0.1, None, 1 / 7, 0.5, 0.5, 0.0)])


def a_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_the_place_comes_back_to_the_bit(tmp_path: Path) -> None:
    network = a_network()
    save_last(tmp_path, network, sgd(network, 0.9, 0), PLACE)
    assert load_last(tmp_path, network, sgd(network, 0.9, 0)) == PLACE


def test_nothing_there_is_no_checkpoint(tmp_path: Path) -> None:
    network = a_network()
    assert load_last(tmp_path, network, sgd(network, 0.9, 0)) is None


def test_weights_that_are_not_finite_never_replace_the_last_good_checkpoint(tmp_path: Path) -> None:
    network = a_network()
    optimizer = sgd(network, 0.9, 0)
    save_last(tmp_path, network, optimizer, PLACE)
    before = (tmp_path / "last.safetensors").read_bytes()
    with torch.no_grad():
        network.get_parameter("0.weight").fill_(torch.inf)
    save_last(tmp_path, network, optimizer, Progress(3))
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_a_write_that_is_cut_off_leaves_the_checkpoint_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = a_network()
    optimizer = sgd(network, 0.9, 0)
    save_last(tmp_path, network, optimizer, PLACE)

    def cut_off(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", cut_off)
    with pytest.raises(KeyboardInterrupt):
        save_last(tmp_path, network, optimizer, Progress(3))
    assert load_last(tmp_path, network, optimizer) == PLACE


def test_only_the_best_that_last_names_is_kept(tmp_path: Path) -> None:
    network = a_network()
    optimizer = sgd(network, 0.9, 0)
    for epoch in (1, 2):
        save_best(tmp_path, network, epoch)
    save_last(tmp_path, network, optimizer, PLACE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-00001.safetensors", "last.safetensors"]


def test_code_facts_and_threads_change_the_fingerprint(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    (room / "a.py").write_text("one")
    found = [fingerprint(["x", "y"], [room]), fingerprint(["xy", ""], [room]), fingerprint(["x", "y"], [])]
    (room / "a.py").write_text("two")
    found.append(fingerprint(["x", "y"], [room]))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        found.append(fingerprint(["x", "y"], [room]))
    finally:
        torch.set_num_threads(threads)
    assert len(set(found)) == 5
    assert fingerprint(["x", "y"], [room]) in found


def test_finished_trainings_go_and_unfinished_stay(tmp_path: Path) -> None:
    mark_finished(tmp_path / "done")
    (tmp_path / "cut").mkdir()
    discard_finished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_old_trainings_go_but_never_the_one_at_hand(tmp_path: Path) -> None:
    for number in range(KEPT_TRAININGS + 3):
        (tmp_path / str(number)).mkdir()
        os.utime(tmp_path / str(number), (number, number))
    discard_old(tmp_path, keep=tmp_path / "0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "3", "4", "5"]
