"""Train, from the files of ingest and split to a model that describes itself; cut off, killed, refused."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml
from torch import nn

import steps.train
import steps.training.loop
from steps.errors import BadInput, Refused
from steps.fuse import fuse
from steps.images.manifest import write_manifest
from steps.models.files import load_classifier, load_probes
from steps.params.fuse import FuseParams
from steps.params.train import TrainParams
from steps.reparam.branches import BLOCKS
from steps.reparam.online import OnlineBranch
from steps.reports.base import read_refusal
from steps.reports.card import Card, Expansion
from steps.reports.train import TrainReport
from steps.train import train
from steps.training.checkpoint import discard_finished
from steps.training.feed import Feed
from tests.training.trainings import PARAMS, changed, contents, make_workspace, run

ROOT = Path(__file__).parent.parent


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_workspace(tmp_path, monkeypatch)


def test_the_model_describes_itself_and_gives_the_figures_of_the_report(workspace: Path) -> None:
    out = run(workspace)
    network, card = load_classifier(out / "model")
    assert card.form == "train"
    assert card.class_names == ("red", "green", "blue")
    assert card.expansion is not None
    probes = load_probes(out / "model")
    assert probes.images_NHWC_u8.shape == (3, 16, 16, 3)
    assert all(36 <= int(name[:2]) < 48 for name in probes.names)  # val images only
    report = TrainReport.read(out / "report.json")
    guessed = network(torch.from_numpy(probes.images_NHWC_u8)).argmax(1).tolist()
    assert report.val_top1 != 1 or guessed == list(probes.labels)
    assert set(report.recall_per_class) == set(report.sampling_per_class) == {"red", "green", "blue"}
    assert report.sampling_per_class["red"] == pytest.approx(1 / 3)
    assert {site.block for site in report.sites} == {"full + point", "full + point + identity"}


def test_the_history_has_a_row_an_epoch_and_the_best_is_the_reports(workspace: Path) -> None:
    out = run(workspace)
    history = pl.read_csv(out / "history.csv")
    report = TrainReport.read(out / "report.json")
    assert history.get_column("epoch").to_list() == [1, 2]
    assert report.best_epoch is not None
    best = history.row(report.best_epoch - 1, named=True)
    assert best["val_top1"] == history.get_column("val_top1").max() == report.val_top1
    assert best["val_macro_recall"] == report.val_macro_recall


def test_equal_inputs_are_equal_bytes_and_another_seed_is_not(workspace: Path) -> None:
    first = contents(run(workspace, out="first"))
    discard_finished(steps.train.TRAININGS)
    assert contents(run(workspace, out="second")) == first
    other = contents(run(workspace, out="third", seed=1))
    assert other["model/model.safetensors"] != first["model/model.safetensors"]
    assert set(first) == {
        "history.csv",
        "history.svg",
        "metrics.json",
        "report.json",
        "model/card.json",
        "model/model.safetensors",
        "model/probes.npz",
    }


@pytest.mark.parametrize("block", BLOCKS)
def test_online_mode_trains_from_params_to_a_certified_plain_network(workspace: Path, block: str) -> None:
    out = run(workspace, changed(expand={"block": block, "mode": "online"}))
    network, card = load_classifier(out / "model")
    assert card.expansion == Expansion(block=block, where="all", mode="online")
    assert any(isinstance(module, OnlineBranch) for module in network.modules())
    fuse(FuseParams(), 0, out / "model", workspace / "fused")
    plain, fused = load_classifier(workspace / "fused/model")
    assert fused.expansion is None
    assert not [module for module in plain.modules() if isinstance(module, OnlineBranch | nn.BatchNorm2d)]


class Stop(Exception):
    """Stands for a kill."""


def test_fine_tuned_for_int8_the_model_is_folded_and_fuse_finds_nothing_to_do(workspace: Path) -> None:
    out = run(workspace, changed(qat={"epochs": 2}))
    network, card = load_classifier(out / "model")
    assert card.fused and card.expansion is None
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    report = TrainReport.read(out / "report.json")
    assert report.epochs == 4 and report.best_epoch in (3, 4)
    assert [row.split(",")[0] for row in (out / "history.csv").read_text().splitlines()[1:]] == list("1234")
    fuse(FuseParams(), 0, out / "model", workspace / "fused")
    fused, _ = load_classifier(workspace / "fused/model")
    for key, value in network.state_dict().items():
        assert torch.equal(fused.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("change", "after"),
    [({}, 6), ({"expand": {"mode": "online"}}, 6), ({"qat": {"epochs": 1}}, 7), ({"qat": {"epochs": 1}}, 10)],
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
    assert steps_taken() == (2 + params.qat.epochs) * 4 - after


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
    assert steps_taken() == 2 * 4


def test_other_labels_never_go_on_from_the_checkpoint(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(workspace, out="first")
    manifest = pl.read_parquet(workspace / "split/manifest.parquet")
    write_manifest(manifest.with_columns(label=2 - pl.col("label")), workspace / "split/manifest.parquet")
    steps_taken = _count_steps(monkeypatch)
    run(workspace, out="second")
    assert steps_taken() == 2 * 4


def test_a_loss_that_is_not_finite_is_refused_with_step_rate_and_key(workspace: Path) -> None:
    with pytest.raises(
        Refused, match=r"not finite \((nan|inf)\) at epoch \d+, step \d+, lr [\d.e+]+; lower train\.lr"
    ):
        run(workspace, changed(lr=1e6, warmup_epochs=0, epochs=20))


def test_class_ids_without_images_are_reported(workspace: Path) -> None:
    (workspace / "out").mkdir()
    train(PARAMS, 0, 5, workspace / "ingest", workspace / "split", workspace / "out")
    report = TrainReport.read(workspace / "out/report.json")
    assert report.unused_ids == (3, 4)
    assert report.recall_per_class["unused_3"] is None
    assert report.head_parameters == 128 * 5 + 5


def test_a_label_beyond_class_num_is_bad_input(workspace: Path) -> None:
    with pytest.raises(BadInput, match=r"outside 0 \.\. 1, the first is 2; set class_num to 3"):
        train(PARAMS, 0, 2, workspace / "ingest", workspace / "split", workspace)


def test_a_split_without_val_is_bad_input(workspace: Path) -> None:
    manifest = pl.read_parquet(workspace / "split/manifest.parquet")
    write_manifest(manifest.filter(pl.col("split") != "val"), workspace / "split/manifest.parquet")
    with pytest.raises(BadInput, match=r"36 images to train on and 0 in val"):
        run(workspace)


def start(workspace: Path, params: TrainParams) -> "subprocess.Popen[bytes]":
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    (workspace / "params.yaml").write_text(yaml.safe_dump({**content, "train": params.model_dump(mode="json")}))
    command = [
        sys.executable,
        "-m",
        "steps.train",
        "--images",
        "ingest",
        "--split",
        "split",
        "--out",
        "data/train",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=workspace, env=environment, stderr=subprocess.DEVNULL)


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


def test_a_refusal_exits_3_and_stands_in_the_report(workspace: Path) -> None:
    assert start(workspace, changed(lr=1e6, warmup_epochs=0, epochs=20)).wait() == 3
    refused = read_refusal(workspace / "data/train/report.json")
    assert refused is not None
    assert "lower train.lr" in refused
    assert not (workspace / "data/train/model").exists()


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

    def counted(*arguments: object) -> float:
        taken.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    patched.setattr(steps.training.loop, "_take_step", counted)
    return lambda: len(taken)
