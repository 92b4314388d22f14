"""Train, from the files of ingest and split to a model that describes itself; interrupted, killed, refused."""

from pathlib import Path

import polars as pl
import pytest
import torch
from torch import nn

import steps.train
import steps.training.loop
from steps.errors import BadInput, Refused
from steps.fuse import fuse
from steps.images.manifest import write_manifest
from steps.models.files import load_classifier, load_probes
from steps.params.fuse import FuseParams
from steps.reparam.branches import BLOCKS
from steps.reparam.online import OnlineBranch
from steps.reports.base import read_refusal
from steps.reports.card import Expansion
from steps.reports.train import TrainReport
from steps.train import train
from steps.training.checkpoint import discard_finished
from tests.training.trainings import PARAMS, changed, contents, make_workspace, run, start


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
    assert all(36 <= int(name[:2]) < 48 for name in probes.names)  # only images of val
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


def test_a_loss_that_is_not_finite_is_refused_with_step_rate_and_key(workspace: Path) -> None:
    with pytest.raises(
        Refused, match=r"not finite \((nan|inf)\) at epoch \d+, step \d+, lr [\d.e+]+; lower train\.lr"
    ):
        run(workspace, changed(lr=1e6, schedule={"warmup_epochs": 0}, epochs=20))


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


def test_a_refusal_exits_3_and_stands_in_the_report(workspace: Path) -> None:
    assert start(workspace, changed(lr=1e6, schedule={"warmup_epochs": 0}, epochs=20)).wait() == 3
    refused = read_refusal(workspace / "data/train/report.json")
    assert refused is not None
    assert "lower train.lr" in refused
    assert not (workspace / "data/train/model").exists()
