"""Train, interrupted or killed and started again: the same model, from the last matching checkpoint only."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from torch import Tensor

import steps.train
import steps.training.loop
from steps.images.manifest import write_manifest
from steps.reports.card import Card
from steps.training.checkpoint import discard_finished
from steps.training.feed import Feed
from tests.training.trainings import changed, contents, make_workspace, run, start


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_workspace(tmp_path, monkeypatch)


STEPS = 5  # batches an epoch: 36 images in batches of at most 8


class Stop(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize(
    ("change", "after"),
    [({}, 6), ({"expand": {"mode": "online"}}, 6), ({"qat": {"epochs": 1}}, 7), ({"qat": {"epochs": 1}}, 12)],
    ids=["branch", "online", "before int8", "for int8"],
)
def test_cut_off_and_run_again_is_the_same_model(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], after: int
) -> None:
    params = changed(**change)
    whole = contents(run(workspace, params, out="whole"))
    discard_finished(steps.train.TRAININGS)
    monkeypatch.setattr(steps.training.loop, "CHECKPOINT_EVERY_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        _stop_after(patched, after)
        with pytest.raises(Stop):
            run(workspace, params, out="cut")
    steps_taken = _count_steps(monkeypatch)
    assert contents(run(workspace, params, out="again")) == whole
    assert steps_taken() == (2 + params.qat.epochs) * STEPS - after


def test_a_model_that_was_finished_but_not_published_is_written_again_without_training(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = contents(run(workspace, out="first"))
    steps_taken = _count_steps(monkeypatch)
    assert contents(run(workspace, out="second")) == first
    assert steps_taken() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.04},
        {"best_by": "macro_recall"},
        {"preprocess": {"side": 24}},
        {"expand": {"block": "acb"}},
        {"expand": {"mode": "online"}},
    ],
)
def test_other_params_never_go_on_from_the_checkpoint(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    run(workspace, out="first")
    steps_taken = _count_steps(monkeypatch)
    run(workspace, changed(**change), out="second")
    assert steps_taken() == 2 * STEPS


def test_other_labels_never_go_on_from_the_checkpoint(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(workspace, out="first")
    manifest = pl.read_parquet(workspace / "split/manifest.parquet")
    write_manifest(manifest.with_columns(label=2 - pl.col("label")), workspace / "split/manifest.parquet")
    steps_taken = _count_steps(monkeypatch)
    run(workspace, out="second")
    assert steps_taken() == 2 * STEPS


def test_killed_and_run_again_is_the_same_model_and_leaves_nothing_behind(workspace: Path) -> None:
    params = changed(epochs=3)
    process = start(workspace, params)
    deadline = time.monotonic() + 120
    while not list(workspace.glob(".foldline/train/*/last.safetensors")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (workspace / "data/train").exists()
    assert start(workspace, params).wait() == 0
    resumed = contents(workspace / "data/train")
    assert not list((workspace / ".foldline/train").iterdir())
    assert contents(run(workspace, params, out="whole")) == resumed
    assert Card.read(workspace / "data/train/model/card.json").form == "train"


def _stop_after(patched: pytest.MonkeyPatch, batches: int) -> None:
    real = Feed.batches
    left = iter(range(batches))

    def until_stopped(feed: Feed, epoch: int, first_step: int) -> object:
        for batch in real(feed, epoch, first_step):
            if next(left, None) is None:
                raise Stop
            yield batch

    patched.setattr(Feed, "batches", until_stopped)


def _count_steps(patched: pytest.MonkeyPatch) -> Callable[[], int]:
    taken: list[int] = []
    real = steps.training.loop._take_step

    def counted(*arguments: object) -> Tensor:
        taken.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    patched.setattr(steps.training.loop, "_take_step", counted)
    return lambda: len(taken)
