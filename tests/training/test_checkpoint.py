"""Checkpoints: found by all inputs of the training, complete or absent, and cleaned up."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adagrad, AdamW, Optimizer

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
from steps.training.optimizers import sgd
from steps.training.state import Parts, parts_of

REACHED = Progress(2, 7, 1 / 3, 1, 0.1 + 0.2, 1 / 9, [EpochRow(1, 0.1, None, 1 / 7, 0.5, 0.5, 0.0)])


def parts(network: nn.Module) -> Parts:
    return parts_of(network, sgd(network, 0.9, 0))


def a_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_what_was_reached_comes_back_to_the_bit(tmp_path: Path) -> None:
    network = a_network()
    save_last(tmp_path, parts(network), REACHED)
    assert load_last(tmp_path, parts(network)) == REACHED


def test_nothing_there_is_no_checkpoint(tmp_path: Path) -> None:
    network = a_network()
    assert load_last(tmp_path, parts(network)) is None


def test_weights_that_are_not_finite_never_replace_the_last_good_checkpoint(tmp_path: Path) -> None:
    network = a_network()
    save_last(tmp_path, parts(network), REACHED)
    before = (tmp_path / "last.safetensors").read_bytes()
    with torch.no_grad():
        network.get_parameter("0.weight").fill_(torch.inf)
    save_last(tmp_path, parts(network), Progress(3))
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_a_write_that_is_cut_off_leaves_the_checkpoint_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = a_network()
    save_last(tmp_path, parts(network), REACHED)

    def cut_off(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", cut_off)
    with pytest.raises(KeyboardInterrupt):
        save_last(tmp_path, parts(network), Progress(3))
    assert load_last(tmp_path, parts(network)) == REACHED


def test_only_the_best_that_last_names_is_kept(tmp_path: Path) -> None:
    network = a_network()
    for epoch in (1, 2):
        save_best(tmp_path, network, epoch)
    save_last(tmp_path, parts(network), REACHED)
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


@pytest.mark.parametrize("make", [SGD, AdamW, partial(SGD, momentum=0.9), partial(AdamW, amsgrad=True), Adagrad])
def test_every_optimizer_goes_on_to_the_bit(tmp_path: Path, make: Callable[..., Optimizer]) -> None:
    def steps(network: nn.Module, optimizer: Optimizer, seeds: range) -> None:
        for seed in seeds:
            images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            network(images).square().mean().backward()
            optimizer.step()

    torch.manual_seed(0)
    whole = a_network()
    optimizer = make(whole.parameters(), lr=0.05)
    steps(whole, optimizer, range(3))
    save_last(tmp_path, parts_of(whole, optimizer), REACHED)
    steps(whole, optimizer, range(3, 6))
    resumed = a_network()
    optimizer = make(resumed.parameters(), lr=0.05)
    load_last(tmp_path, parts_of(resumed, optimizer))
    steps(resumed, optimizer, range(3, 6))
    states = (whole.state_dict(), resumed.state_dict())
    assert all(torch.equal(one, other) for one, other in zip(*(state.values() for state in states), strict=True))
