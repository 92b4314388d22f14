"""A tiny exported model with its images, and a function that evaluates a form on these images."""

from pathlib import Path

import polars as pl
import pytest

from steps.evaluate import evaluate
from steps.reports.evaluate import FormReport
from tests.backends.tiny import (
    NAMES,
    onnx_model,
    weights,
    write_exported,
    write_images,
)

IMAGES = 40
TEST = [number for number in range(IMAGES) if number % 5 == 4]
SWAPPED = (NAMES[1], NAMES[0], *NAMES[2:])


def make_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write an exported model and its images, and make their folder the current folder."""
    write_exported(tmp_path / "model", onnx_model(weights()))
    write_images(tmp_path, IMAGES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluated(root: Path, form: str = "export", model: str = "model") -> tuple[FormReport, pl.DataFrame]:
    """Evaluate the form; return its report and its scores."""
    out = root / "evaluate"
    out.mkdir(exist_ok=True)
    evaluate(form, root / model, root / "ingest", root / "split", out)
    return FormReport.read(out / f"{form}.json"), pl.read_parquet(out / f"{form}.parquet")
