"""An exported model, and engines of it with a planted change."""

import shutil
from pathlib import Path

import onnx
import pytest

from benchmarks.planted.places import Change
from steps.reports.artifact import CARD, write_card
from steps.reports.card import Card
from tests.backends.tiny import onnx_model, weights, write_exported, write_images

ENGINE = "onnxruntime-fp32"


def make_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write an exported model, its images and split into data/, and make their folder the current folder."""
    write_images(tmp_path / "data", 40)
    write_exported(tmp_path / "data/export/model", onnx_model(weights()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def build(root: Path, change: Change, engine: str = ENGINE, **card: str) -> None:
    """Write an engine of the exported graph after the change."""
    out = root / "data/build" / engine
    shutil.copytree(root / "data/export/model", out)
    onnx.save(change(onnx.load(out / "model.onnx")), out / "model.onnx")
    write_card(out, Card.read(out / CARD).model_copy(update={"form": engine, **card}))
