"""A line of tiny forms up to its verdict, and the release of that line."""

from pathlib import Path

import polars as pl
import pytest

import steps.evaluate
from steps.evaluate import evaluate
from steps.gate import gate
from steps.params.gate import GateParams
from steps.params.release import ReleaseParams
from steps.release import release
from steps.reports.artifact import write_card
from steps.reports.card import Card
from steps.reports.release import INDEX, ReleaseCard
from tests.backends.tiny import onnx_model, probe_images, reference, weights, write_exported
from tests.backends.tiny import write_images as write_data

ENGINES = ("onnxruntime-fp32", "onnxruntime-fp16", "onnxruntime-int8")  # names only: all hold one float32 graph
WITHHELD = ENGINES[-1]
IMAGES = 100
LENIENT = GateParams(required=("export",), max_top1_drop=0.5, max_recall_drop=1)  # for twenty test images
RELEASE = {
    "evaluate": "data/evaluate",
    "gate": "data/gate",
    "model": "data/export/model",
    "build": "data/build",
    "ledger": "ledger.parquet",
}


def make_judged(root: Path) -> Path:
    """Make a line whose forms are one tiny graph, evaluated and judged; the last engine differs: withheld."""
    write_data(root, IMAGES)
    _label_as_the_network_says(root)
    made_from = None
    folders = {form: root / f"data/{form}/model" for form in ("train", "fuse", "export")}
    folders |= {engine: root / "data/build" / engine for engine in ENGINES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            steps.evaluate, "_note_latency", lambda *_: None
        )  # seconds of measuring that nothing here reads
        (root / "data/evaluate").mkdir(parents=True)
        for form, folder in folders.items():
            card = _write_form(folder, form, made_from)
            made_from = card.artifact if form in ("train", "fuse", "export") else made_from
            evaluate(form, folder, root / "ingest", root / "split", root / "data/evaluate")
        (root / "champion").mkdir()
        (root / "champion/champion.json").write_text('{"accepted": false}')
        evaluate("champion", root / "champion", root / "ingest", root / "split", root / "data/evaluate")
        patch.chdir(root)
        gate(LENIENT, ENGINES, Path("data/evaluate"), Path("data/gate"))
    pl.DataFrame({"key": [1], "split": ["test"]}).write_parquet(root / "ledger.parquet")
    return root


def _label_as_the_network_says(root: Path) -> None:
    message = reference(probe_images(IMAGES), weights()).argmax(axis=1)
    manifest = pl.read_parquet(root / "split/manifest.parquet")
    manifest.with_columns(label=pl.Series(message)).write_parquet(root / "split/manifest.parquet")


def _write_form(folder: Path, form: str, made_from: str | None) -> Card:
    card = write_exported(folder, onnx_model(weights(seed=1 if form == WITHHELD else 0)))
    (folder / "report.json").write_text("{}")  # build leaves such a file next to an engine
    precision = form.partition("-")[2] or card.precision
    message = {"form": form, "made_from": made_from, "precision": precision}
    return write_card(folder, card.model_copy(update=message))


def released(out: Path = Path("data/release")) -> ReleaseCard:
    """Release the line in the current folder."""
    out.mkdir(parents=True)
    release(ReleaseParams(), LENIENT, ENGINES, **{name: Path(path) for name, path in RELEASE.items()}, out=out)
    return ReleaseCard.read(out / INDEX)
