"""The start of a training: weights, their own preprocessing, a bottleneck, a network that needs much data."""

from pathlib import Path

import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from steps.errors import BadInput, Refused
from steps.models.architectures import create
from steps.models.files import load_classifier, load_probes
from steps.reports.train import TrainReport
from steps.train import train
from tests.training.trainings import changed, contents, make_workspace, run


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_workspace(tmp_path, monkeypatch)


@pytest.fixture
def weights(workspace: Path) -> Path:
    torch.manual_seed(7)
    network = create("repvgg_nano", 3, 16)
    path = workspace / "data/weights/weights.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("block", "mode"), [("none", "branch"), ("repvgg", "branch"), ("acb", "branch"), ("dbb", "online")]
)
def test_without_epochs_a_finished_model_goes_through_as_the_same_function(
    workspace: Path, weights: Path, block: str, mode: str
) -> None:
    params = changed(epochs=0, weights=str(weights.relative_to(workspace)), expand={"block": block, "mode": mode})
    out = run(workspace, params)
    network, card = load_classifier(out / "model")
    plain = create("repvgg_nano", 3, 16).eval()
    plain.load_state_dict(load_file(weights))
    probes_NHWC_u8 = torch.from_numpy(load_probes(out / "model").images_NHWC_u8)
    expected = plain(network.normalise(probes_NHWC_u8))
    assert torch.allclose(network(probes_NHWC_u8), expected, rtol=1e-5, atol=1e-6)
    assert (card.expansion is None) == (block == "none")
    history = pl.read_csv(out / "history.csv")
    assert history.get_column("epoch").to_list() == [0]
    assert history.get_column("val_loss").is_finite().all()
    report = TrainReport.read(out / "report.json")
    assert report.weights is not None
    assert report.weights.coverage == 1


def test_the_weights_own_preprocessing_is_trained_with_written_and_reported(
    workspace: Path, weights: Path
) -> None:
    theirs = {"size": 24, "resize": 28, "mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]}
    weights.with_suffix(".yaml").write_text(yaml.safe_dump(theirs))
    with pytest.raises(Refused, match=r"train\.preprocess\.side is 16, but .*weights\.yaml says 24"):
        run(workspace, changed(weights=str(weights.relative_to(workspace))), out="refused")
    out = run(workspace, changed(weights=str(weights.relative_to(workspace)), preprocess={}, epochs=0))
    _, card = load_classifier(out / "model")
    how = card.preprocessing
    assert (how.size, how.resize, how.mean, how.std) == (24, 28, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2))
    assert load_probes(out / "model").images_NHWC_u8.shape == (3, 24, 24, 3)
    report = TrainReport.read(out / "report.json")
    assert report.preprocessing_from is not None and report.preprocessing_from.endswith("weights.yaml")


def test_a_size_that_the_network_does_not_take_is_bad_input(workspace: Path) -> None:
    with pytest.raises(
        BadInput, match=r"vgg16_cifar does not take images of 16 pixels \(train\.preprocess\.side\)"
    ):
        run(workspace, changed(arch="vgg16_cifar"))


def test_a_head_that_nobody_would_train_is_refused(workspace: Path, weights: Path) -> None:
    (workspace / "out").mkdir()
    params = changed(epochs=0, weights=str(weights.relative_to(workspace)))
    with pytest.raises(Refused, match=r"no last layer for these classes.*Give epochs"):
        train(params, 0, 5, workspace / "ingest", workspace / "split", workspace / "out")


def test_a_finished_model_that_lacks_a_tensor_is_refused(workspace: Path, weights: Path) -> None:
    tensors = load_file(weights)
    del tensors["body.stem.0.norm.running_var"]
    save_file(tensors, weights)
    with pytest.raises(Refused, match=r"lacks 1 of the network's tensors \(body\.stem\.0\.norm\.running_var\)"):
        run(workspace, changed(epochs=0, weights=str(weights.relative_to(workspace))))


def test_a_bottleneck_is_trained_reported_and_written(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(workspace, changed(bottleneck=2, epochs=1))
    report = TrainReport.read(out / "report.json")
    assert report.head_parameters == (128 * 2 + 2) + (2 * 3 + 3)
    assert report.head_parameters_without_bottleneck == 128 * 3 + 3
    assert "without its bottleneck the last layer would have 387 parameters" in capsys.readouterr().err
    network, card = load_classifier(out / "model")
    assert card.bottleneck == 2
    assert network(torch.zeros(1, 16, 16, 3, dtype=torch.uint8)).shape == (1, 3)


def test_a_vision_transformer_on_few_images_is_trained_with_a_warning(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(workspace, changed(arch="timm:vit_tiny_patch16_224", expand={"block": "none"}, epochs=1))
    (warning,) = TrainReport.read(out / "report.json").warnings
    assert "36 images are few: below" in warning
    assert warning in capsys.readouterr().err


def test_training_begins_from_the_weights(workspace: Path, weights: Path) -> None:
    fresh = contents(run(workspace, out="fresh"))
    tuned = contents(run(workspace, changed(weights=str(weights.relative_to(workspace))), out="tuned"))
    assert tuned["history.csv"] != fresh["history.csv"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs is 0 and weights is null"),
        ({"weights": "elsewhere/w.pt"}, "is not under data/weights, which DVC watches"),
        ({"weights": "data/weights/../../w.pt"}, "is not under data/weights, which DVC watches"),
        (
            {"epochs": 0, "weights": "data/weights/w.pt", "expand": {"init": "standard"}},
            "standard would spoil the weights",
        ),
        ({"expand": {"block": "none", "mode": "online"}}, "mode online folds a block's branches"),
        ({"loss": {"name": "focal", "label_smoothing": 0.1}}, "label_smoothing"),
    ],
)
def test_params_that_make_no_sense_are_refused_before_anything_runs(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        changed(**change)
