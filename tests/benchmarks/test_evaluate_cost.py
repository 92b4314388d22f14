"""benchmarks/evaluate_cost.py: the drawn images are a valid test set; each form is timed next to its engine."""

from pathlib import Path

import pytest

from benchmarks import evaluate_cost
from benchmarks.evaluate_cost import HOW, figures, write_images
from steps.images.dataset import Images, load_all
from steps.images.manifest import read_manifest
from tests.backends.tiny import onnx_model, weights, write_exported


def test_the_images_that_it_draws_are_a_test_set(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    manifest = read_manifest(tmp_path / "split/manifest.parquet", split="test")
    assert load_all(manifest, tmp_path / "files", HOW).shape == (3, 64, 64, 3)


def test_each_form_is_evaluated_beside_its_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[Images] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate_cost, "evaluate", lambda *_: None)
    monkeypatch.setattr(evaluate_cost, "run_bare", lambda _, images: shown.append(images))
    write_exported(tmp_path / "model", onnx_model(weights()))
    write_images(Path(), 3)
    (figure,) = figures({"export": Path("model"), "fuse": Path("model")}, 3)
    assert [len(images) for images in shown] == [3, 3]
    assert figure.name == "evaluating 3 images in 2 forms, to engines and one decode" and figure.bound == 1.2
    assert "export: engine" in capsys.readouterr().out
