"""Weights without a preprocessing are recognised by file name, if their library published them under that name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from steps.errors import Refused
from steps.weights.own_preprocessing import StatedPreprocessing
from steps.weights.preprocessing import DEFAULTS, resolve_preprocessing

HALF = (0.5, 0.5, 0.5)
IMAGENET = (DEFAULTS.mean, DEFAULTS.std)
TORCHVISIONS = "inception_v3_google-0cc3c7bd.pth"  # timm names an older file with the same weights, -1a9a5a14


def weights(folder: Path, name: str) -> Path:
    """Return a weights file without any preprocessing."""
    torch.save({"fc.weight": torch.zeros(2)}, folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("arch", "file", "settled", "source"),
    [
        ("inception_v3", TORCHVISIONS, (299, 341, "bicubic", HALF, HALF), "timm:inception_v3.tv_in1k"),
        (
            "torchvision:inception_v3",
            TORCHVISIONS,
            (299, 342, "bilinear", *IMAGENET),
            "torchvision:inception_v3 IMAGENET1K_V1",
        ),
        ("timm:inception_v3.tf_in1k", "mine.pth", (299, 341, "bicubic", HALF, HALF), "timm:inception_v3.tf_in1k"),
        ("inception_v3.gluon_in1k", "w.pth", (299, 341, "bicubic", *IMAGENET), "timm:inception_v3.gluon_in1k"),
        (
            "inception_v3",
            "inception_v3.gluon_in1k.pth",
            (299, 341, "bicubic", *IMAGENET),
            "timm:inception_v3.gluon_in1k",
        ),
        (
            "torchvision:resnet50",
            "resnet50-11ad3fa6.pth",
            (224, 232, "bilinear", *IMAGENET),
            "torchvision:resnet50 IMAGENET1K_V2",
        ),
        ("resnet18", "resnet18-f37072fd.pth", (224, 256, "bilinear", *IMAGENET), "timm:resnet18.tv_in1k"),
        *(
            (
                arch,
                f"ResNet50_vd{kind}_pretrained.pdparams",
                (224, 256, "bilinear", *IMAGENET),
                f"PaddleClas:ResNet50_vd{kind}_pretrained",
            )
            for arch, kind in (
                ("resnet50_vd", ""),
                ("resnet50_vd", "_ssld"),
                ("timm:resnet50d", "_ssld_v2"),
                ("resnet50_vd", "_10w"),
            )
        ),
    ],
)
def test_the_published_preprocessing_is_adopted(
    tmp_path: Path, arch: str, file: str, settled: tuple[Any, ...], source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    how, said_by = resolve_preprocessing(StatedPreprocessing(), weights(tmp_path, file), "adopt", arch)
    assert (how.size, how.resize, how.interpolation, how.mean, how.std) == settled
    assert said_by == source
    assert f"the preprocessing is from {source}" in capsys.readouterr().err


def test_a_folder_of_variables_is_known_by_its_name_too(tmp_path: Path) -> None:
    (tmp_path / "ResNet50_vd_10w_pretrained").mkdir()
    how, source = resolve_preprocessing(
        StatedPreprocessing(), tmp_path / "ResNet50_vd_10w_pretrained", "adopt", "resnet50_vd"
    )
    assert (how.size, how.resize, how.mean, how.std) == (224, 256, *IMAGENET)
    assert source == "PaddleClas:ResNet50_vd_10w_pretrained"


def test_another_mean_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    path, stated = weights(tmp_path, TORCHVISIONS), StatedPreprocessing(mean=DEFAULTS.mean)
    with pytest.raises(
        Refused, match=r"mean is \[0.485, .*\], but timm:inception_v3.tv_in1k says \[0.5, 0.5, 0.5\]"
    ):
        resolve_preprocessing(stated, path, "adopt", "inception_v3")
    assert resolve_preprocessing(stated, path, "override", "inception_v3").preprocessing.mean == DEFAULTS.mean


def test_what_the_file_carries_goes_before_its_name(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "preprocessing": {"mean": [0.1, 0.2, 0.3]}}, tmp_path / TORCHVISIONS)
    how, source = resolve_preprocessing(StatedPreprocessing(), tmp_path / TORCHVISIONS, "adopt", "inception_v3")
    assert how.mean == (0.1, 0.2, 0.3) and source == str(tmp_path / TORCHVISIONS)


@pytest.mark.parametrize(
    ("arch", "file"),
    [
        ("inception_v3", "mine.pth"),
        ("inception_v3", "inception_v3_google.pth"),  # a name without the hash may belong to anyone's weights
        ("timm:inception_v3.no_such", "mine.pth"),
        ("resnet50", "resnet50-00000000.pth"),  # timm has two files of that name, with two preprocessings
        ("repvgg_nano", TORCHVISIONS),
        ("tests.models.artifacts:Own", TORCHVISIONS),
        ("torchvision:vgg11_bn", TORCHVISIONS),
        ("resnet50_vd", "vd.pdparams"),
        ("resnet50_vd", "Fix_ResNet50_vd_ssld_v2_pretrained.pdparams"),  # trained at 320 pixels
        ("resnet50", "ResNet50_vd_ssld_pretrained.pdparams"),
    ],
)
def test_what_cannot_be_known_is_not_guessed(tmp_path: Path, arch: str, file: str) -> None:
    assert resolve_preprocessing(StatedPreprocessing(), weights(tmp_path, file), "adopt", arch) == (DEFAULTS, None)


def test_a_mean_that_is_assumed_is_said_with_those_of_published_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = weights(tmp_path, "mine.pth")
    resolve_preprocessing(StatedPreprocessing(), path, "adopt", "inception_v3")
    message = capsys.readouterr().err
    assert "mine.pth has none: short side to 32 (bilinear), centre 32, mean [0.485, 0.456, 0.406]" in message
    assert "this mean and std are assumed; timm:inception_v3.tv_in1k, timm:inception_v3.tf_in1k" in message
    assert "were made with mean [0.5, 0.5, 0.5], std [0.5, 0.5, 0.5]" in message and "gluon" not in message
    for stated, arch in (
        (StatedPreprocessing(mean=HALF, std=HALF), "inception_v3"),
        (StatedPreprocessing(), "resnet18"),
    ):
        resolve_preprocessing(stated, path, "adopt", arch)
        assert "are assumed" not in capsys.readouterr().err
