"""evaluate-onnx@champion: evaluate the release in production on these images, or say why that is impossible."""

import shutil
from pathlib import Path

import pytest

from steps.errors import BadInput
from steps.reports.champion import Champion
from steps.reports.release import write_sums
from tests.backends.tiny import (
    onnx_model,
    weights,
    write_exported,
)
from tests.evaluated import SWAPPED, evaluated, make_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_root(tmp_path, monkeypatch)


def test_without_a_champion_the_form_is_deferred(root: Path) -> None:
    Champion(accepted=False).write(root / "champion/champion.json")
    report, scores = evaluated(root, "champion", "champion")
    assert report.deferred == "there is no accepted release yet"
    assert scores.is_empty()


def test_a_release_that_is_no_longer_accepted_is_no_champion(root: Path) -> None:
    Champion(accepted=False).write(root / "champion/champion.json")
    shutil.copytree(root / "model", root / "champion/release/model")
    report, _ = evaluated(root, "champion", "champion")
    assert report.deferred == "there is no accepted release yet" and report.card is None


def test_a_champion_is_its_releases_onnx_model(root: Path) -> None:
    Champion(accepted=True).write(root / "champion/champion.json")
    shutil.copytree(root / "model", root / "champion/release/model")
    write_sums(root / "champion/release")
    report, scores = evaluated(root, "champion", "champion")
    assert report.deferred is None
    assert scores.equals(evaluated(root)[1])


def test_a_champion_that_was_changed_since_is_not_compared_with(root: Path) -> None:
    Champion(accepted=True).write(root / "champion/champion.json")
    shutil.copytree(root / "model", root / "champion/release/model")
    (root / "champion/release/labels.txt").write_text("ant\n")
    write_sums(root / "champion/release")
    (root / "champion/release/labels.txt").write_text("bee\n")
    with pytest.raises(BadInput, match=r"labels\.txt is not the file that SHA256SUMS names"):
        evaluated(root, "champion", "champion")


def test_a_champion_of_other_classes_is_deferred_and_the_gate_says_what_that_means(root: Path) -> None:
    Champion(accepted=True).write(root / "champion/champion.json")
    write_exported(root / "champion/release/model", onnx_model(weights(), SWAPPED), SWAPPED)
    write_sums(root / "champion/release")
    report, _ = evaluated(root, "champion", "champion")
    assert "cannot be compared on these images: class 0 is 'ant'" in str(report.deferred)
    assert report.card is not None  # unlike a missing champion
