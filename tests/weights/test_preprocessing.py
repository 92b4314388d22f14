"""Weights bring their own preprocessing; a different preprocessing is refused unless the params confirm it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from steps.errors import BadInput, Refused
from steps.reports.card import Preprocessing
from steps.weights.own_preprocessing import StatedPreprocessing, found_with
from steps.weights.preprocessing import DEFAULTS, resolve_preprocessing
from tests.models.artifacts import HOW, write_trained

TIMM = {
    "input_size": [3, 224, 224],
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": [0.498, 0.498, 0.498],
    "std": [0.502, 0.502, 0.502],
    "classifier": "fc",
}
THEIRS = Preprocessing(
    size=224, resize=256, interpolation="bicubic", mean=(0.498, 0.498, 0.498), std=(0.502, 0.502, 0.502)
)
ARCH = "repvgg_nano"  # no weights of this network are published
NUMBERS = {"x": torch.zeros(2)}


def in_safetensors(folder: Path, message: dict[str, Any]) -> Path:
    save_file(NUMBERS, folder / "w.safetensors", {"pretrained_cfg": json.dumps(message)})
    return folder / "w.safetensors"


def in_a_torch_file(folder: Path, message: dict[str, Any]) -> Path:
    torch.save({"state_dict": NUMBERS, "pretrained_cfg": message}, folder / "w.pt")
    return folder / "w.pt"


def beside_as_hugging_face_does(folder: Path, message: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(
        json.dumps({"architecture": ARCH, "num_classes": 3, "pretrained_cfg": message})
    )
    save_file(NUMBERS, folder / "w.safetensors")
    return folder / "w.safetensors"


def beside_under_its_own_name(folder: Path, message: dict[str, Any]) -> Path:
    (folder / "w.pdparams.yaml").write_text(yaml.safe_dump(message))
    (folder / "w.pdparams").write_bytes(b"")
    return folder / "w.pdparams"


def inside_a_folder(folder: Path, message: dict[str, Any]) -> Path:
    (folder / "vd").mkdir()
    (folder / "vd/preprocess.json").write_text(json.dumps(message))
    return folder / "vd"


PLACES = (
    in_safetensors,
    in_a_torch_file,
    beside_as_hugging_face_does,
    beside_under_its_own_name,
    inside_a_folder,
)


@pytest.mark.parametrize("put", PLACES)
def test_it_is_adopted_from_wherever_weights_carry_it(
    tmp_path: Path, put: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = put(tmp_path, TIMM)
    settled, source = resolve_preprocessing(StatedPreprocessing(), weights, "adopt", ARCH)
    assert settled == THEIRS
    assert source is not None and Path(source).exists()
    message = capsys.readouterr().err
    assert f"from {source}: short side to 256 (bicubic), centre 224, mean [0.498, 0.498, 0.498]" in message


def test_our_own_artifacts_card_is_adopted_too(tmp_path: Path) -> None:
    write_trained(tmp_path / "model", None)
    assert (
        resolve_preprocessing(
            StatedPreprocessing(), tmp_path / "model/model.safetensors", "adopt", ARCH
        ).preprocessing
        == HOW
    )


@pytest.mark.parametrize(
    ("stated", "both"),
    [
        (
            StatedPreprocessing(mean=(0.485, 0.456, 0.406)),
            r"mean is \[0.485, 0.456, 0.406\], but .*w.pt says \[0.498, 0.498, 0.498\]",
        ),
        (
            StatedPreprocessing(std=(0.5, 0.5, 0.5), size=192),
            r"side is 192, but .*says 224.*std is \[0.5, 0.5, 0.5\], but .*0.502",
        ),
        (StatedPreprocessing(interpolation="bilinear"), "interpolation is bilinear, but .* says bicubic"),
        (StatedPreprocessing(resize=232), "resize is 232, but .* says 256"),
    ],
)
def test_another_value_is_refused_with_both_unless_it_is_meant(
    tmp_path: Path, stated: StatedPreprocessing, both: str
) -> None:
    weights = in_a_torch_file(tmp_path, TIMM)
    with pytest.raises(Refused, match=rf"train.preprocess.{both}.*of_weights: override"):
        resolve_preprocessing(stated, weights, "adopt", ARCH)
    settled = resolve_preprocessing(stated, weights, "override", ARCH).preprocessing
    meant = {name: value for name, value in vars(stated).items() if value is not None and name != "crop"}
    if "size" in meant:
        meant["resize"] = 219  # keeps the crop share of the weights: 192 / 0.875
    assert settled == THEIRS.model_copy(update=meant)


def test_the_same_value_in_fewer_digits_is_no_other_value(tmp_path: Path) -> None:
    message = TIMM | {"mean": [0.49803921, 0.49803921, 0.49803921]}
    stated = StatedPreprocessing(size=224, resize=256, interpolation="bicubic", mean=(0.498, 0.498, 0.498))
    assert resolve_preprocessing(stated, in_safetensors(tmp_path, message), "adopt", ARCH).preprocessing.mean == (
        0.498,
        0.498,
        0.498,
    )


@pytest.mark.parametrize(
    ("change", "message", "meant"),
    [
        (
            {"interpolation": "lanczos"},
            "resizes with 'lanczos'; supported are",
            StatedPreprocessing(interpolation="bicubic"),
        ),
        ({"crop_mode": "squash"}, "crops 'squash'", StatedPreprocessing(size=224, resize=224)),
        ({"input_size": [3, 224, 192]}, "crops '224 x 192'", StatedPreprocessing(size=224, resize=224)),
    ],
)
def test_what_cannot_be_done_here_is_refused_until_something_else_is_stated(
    tmp_path: Path, change: dict[str, Any], message: str, meant: StatedPreprocessing
) -> None:
    weights = in_safetensors(tmp_path, TIMM | change)
    with pytest.raises(Refused, match=message):
        resolve_preprocessing(StatedPreprocessing(), weights, "adopt", ARCH)
    with pytest.raises(Refused, match=message):
        resolve_preprocessing(StatedPreprocessing(), weights, "override", ARCH)
    assert resolve_preprocessing(meant, weights, "override", ARCH).preprocessing.size == 224


def test_weights_that_carry_nothing_leave_it_to_params_and_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"mean": torch.zeros(3), "std": torch.ones(3)}, tmp_path / "w.pt")  # tensors with these names
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "hidden_size": 3}))
    assert found_with(tmp_path / "w.pt") is None
    settled, source = resolve_preprocessing(StatedPreprocessing(size=64), tmp_path / "w.pt", "adopt", ARCH)
    assert settled == DEFAULTS.model_copy(update={"size": 64, "resize": 64}) and source is None
    assert "w.pt has none: short side to 64 (bilinear)" in capsys.readouterr().err


def test_without_weights_params_and_defaults_decide_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve_preprocessing(StatedPreprocessing(), None, "adopt", ARCH) == (DEFAULTS, None)
    stated = StatedPreprocessing(
        size=48, resize=56, interpolation="bicubic", mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0)
    )
    settled = resolve_preprocessing(stated, None, "adopt", ARCH).preprocessing
    assert settled.model_dump() == {name: value for name, value in vars(stated).items() if name != "crop"}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ({"mean": [123.7, 116.3, 103.5]}, "the value of mean.0 is not valid"),
        ({"std": [0.2, 0.2]}, "the value of std is not valid"),
        ({"size": "large"}, "the value of size is not valid"),
    ],
)
def test_what_is_no_preprocessing_is_an_error_that_names_file_and_key(
    tmp_path: Path, message: dict[str, Any], fault: str
) -> None:
    with pytest.raises(BadInput, match=rf"w\.pdparams\.yaml: {fault}"):
        resolve_preprocessing(StatedPreprocessing(), beside_under_its_own_name(tmp_path, message), "adopt", ARCH)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{mean: ["])
def test_a_file_beside_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    weights = in_safetensors(tmp_path, {})
    (tmp_path / "preprocess.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"preprocess\.json is no JSON: line 1: "):
        found_with(weights)


def test_weights_that_are_not_there_and_a_crop_of_nothing_are_errors(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"train.weights: .*nothing\.pt is not there"):
        resolve_preprocessing(StatedPreprocessing(), tmp_path / "nothing.pt", "adopt", ARCH)
    with pytest.raises(BadInput, match="resize 24 is less than side 32"):
        resolve_preprocessing(StatedPreprocessing(resize=24), None, "adopt", ARCH)
