"""A file next to weights may belong to other weights: the file is used if nothing contradicts it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from steps.errors import BadInput, Refused
from steps.files import sha256
from steps.weights.own_preprocessing import StatedPreprocessing
from steps.weights.preprocessing import DEFAULTS, resolve_preprocessing
from steps.weights.published_preprocessing import same_network

HALF = (0.5, 0.5, 0.5)
INCEPTION = {
    "input_size": [3, 299, 299],
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "mean": HALF,
    "std": HALF,
}
RESNET50 = "resnet50-11ad3fa6.pth"  # torchvision's second weights of this network
RESNET18 = "resnet18-f37072fd.pth"


def weights(folder: Path, name: str) -> Path:
    """Return a weights file without any preprocessing."""
    torch.save({"fc.weight": torch.zeros(2)}, folder / name)
    return folder / name


def write(folder: Path, content: dict[str, Any], name: str = "config.json") -> None:
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("arch", ["inception_v3", None])
def test_what_contradicts_the_published_name_is_refused_with_both(tmp_path: Path, arch: str | None) -> None:
    content = {"pretrained_cfg": INCEPTION} | ({"architecture": arch} if arch else {})
    write(tmp_path, content)
    with pytest.raises(BadInput, match=r"config.json says side 299, .*mean \[0.5, 0.5, 0.5\]") as refusal:
        resolve_preprocessing(StatedPreprocessing(), weights(tmp_path, RESNET50), "adopt", "torchvision:resnet50")
    message = str(refusal.value)
    assert f"{RESNET50} is known as torchvision:resnet50 IMAGENET1K_V2: side 224, resize 232" in message
    assert ("is of inception_v3, and train.arch is torchvision:resnet50" in message) == (arch is not None)
    assert f"write the preprocessing into {RESNET50}.yaml" in message


@pytest.mark.parametrize(
    ("file", "key", "named", "trained"),
    [
        ("config.json", "architecture", "inception_v3", "resnet50"),
        ("card.json", "arch", "torchvision:resnet18", "repvgg_nano"),
        ("config.json", "architecture", "inception_v3", "torchvision:inception_v3"),  # mean of 0.5
        ("card.json", "arch", "mine.networks:make", "other.networks:make"),
    ],
)
def test_a_file_of_another_network_is_refused_where_nothing_else_is_known(
    tmp_path: Path, file: str, key: str, named: str, trained: str
) -> None:
    write(tmp_path, {key: named, "preprocessing": INCEPTION}, file)
    with pytest.raises(
        BadInput, match=rf"{file} is of {named}, and train.arch is {trained}\. .*set train.arch to"
    ):
        resolve_preprocessing(StatedPreprocessing(), weights(tmp_path, "mine.pth"), "adopt", trained)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("resnet18", "timm:resnet18.a1_in1k", True),
        ("timm:resnet18.tv_in1k", "resnet18.a1_in1k", True),
        ("resnet50d", "resnet50_vd", True),
        ("torchvision:resnet18", "torchvision:resnet18", True),
        ("repvgg_nano", "repvgg_nano", True),
        ("resnet18", "resnet34", False),
        ("resnet18", "torchvision:resnet18", False),
        ("mine:make", "other:make", False),
        ("nobody_knows_it", "resnet18", False),
    ],
)
def test_names_of_one_network_are_known(one: str, other: str, same: bool) -> None:
    assert same_network(one, other) is same_network(other, one) is same


def test_a_file_of_the_same_network_is_adopted_as_before(tmp_path: Path) -> None:
    write(tmp_path, {"architecture": "inception_v3", "pretrained_cfg": INCEPTION})
    how, source = resolve_preprocessing(
        StatedPreprocessing(), weights(tmp_path, "model.pth"), "adopt", "timm:inception_v3"
    )
    assert (how.size, how.mean) == (299, HALF) and source == str(tmp_path / "config.json")


def test_where_both_agree_what_the_file_beside_leaves_out_is_known_too(tmp_path: Path) -> None:
    write(tmp_path, {"mean": DEFAULTS.mean, "std": DEFAULTS.std}, "preprocess.json")
    how, source = resolve_preprocessing(StatedPreprocessing(), weights(tmp_path, RESNET18), "adopt", "resnet18")
    assert (how.size, how.resize) == (224, 256) and source == "timm:resnet18.tv_in1k"


def test_it_is_settled_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = weights(tmp_path, RESNET18)
    write(tmp_path, {"architecture": "inception_v3", "pretrained_cfg": INCEPTION})
    stated = StatedPreprocessing(
        size=224, resize=256, interpolation="bilinear", mean=DEFAULTS.mean, std=DEFAULTS.std
    )
    how, source = resolve_preprocessing(stated, path, "adopt", "resnet18")
    assert (how.size, how.mean) == (224, DEFAULTS.mean) and source == "timm:resnet18.tv_in1k"
    assert f"{tmp_path / 'config.json'} does not count" in capsys.readouterr().err
    theirs = StatedPreprocessing(size=299, resize=341, interpolation="bicubic", mean=HALF, std=HALF)
    with pytest.raises(Refused, match=r"timm:resnet18\.tv_in1k says"):
        resolve_preprocessing(theirs, path, "adopt", "resnet18")
    assert resolve_preprocessing(theirs, path, "override", "resnet18").preprocessing.mean == HALF
    with pytest.raises(BadInput, match="is not certain"):
        resolve_preprocessing(StatedPreprocessing(mean=HALF, std=HALF), path, "override", "resnet18")


def test_it_is_settled_by_a_file_of_the_weights_own_name(tmp_path: Path) -> None:
    write(tmp_path, {"architecture": "inception_v3", "pretrained_cfg": INCEPTION})
    (tmp_path / f"{RESNET18}.yaml").write_text(yaml.safe_dump({"mean": [0.1, 0.2, 0.3]}))
    assert resolve_preprocessing(
        StatedPreprocessing(), weights(tmp_path, RESNET18), "adopt", "resnet18"
    ).preprocessing.mean == (0.1, 0.2, 0.3)


def test_a_card_vouches_for_the_file_whose_checksum_it_has(tmp_path: Path) -> None:
    path = weights(tmp_path, RESNET18)
    card = {"arch": "timm:resnet18.tv_in1k", "preprocessing": {"size": 64, "resize": 64, "mean": HALF}}
    write(tmp_path, card | {"files": {RESNET18: sha256(path)}}, "card.json")
    assert (
        resolve_preprocessing(StatedPreprocessing(), path, "adopt", "timm:resnet18.tv_in1k").preprocessing.size
        == 64
    )
    write(tmp_path, card | {"files": {RESNET18: "0" * 64}}, "card.json")
    with pytest.raises(BadInput, match=r"card.json says side 64, .* known as timm:resnet18.tv_in1k: side 224"):
        resolve_preprocessing(StatedPreprocessing(), path, "adopt", "timm:resnet18.tv_in1k")
