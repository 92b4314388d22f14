"""A small training: the outputs of ingest and split, the params, and the outputs of train."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from PIL import Image

from steps.images.manifest import SCHEMA, write_manifest
from steps.params.train import TrainParams
from steps.reports.classes import Classes
from steps.reports.ingest import IngestReport
from steps.train import train
from tests.reference_params import reference_params

ROOT = Path(__file__).parent.parent.parent

PARAMS = TrainParams(
    arch="repvgg_nano",
    preprocess={"side": 16},
    epochs=2,
    batch_size=8,
    lr=0.05,
    sampler="balanced",
    probes=3,
)


def make_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the outputs of ingest and split for 60 small images of 3 classes."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)  # on tiny images, threads would only wait for each other
    draw = np.random.default_rng(0)
    ingest, split = tmp_path / "ingest", tmp_path / "split"
    ingest.mkdir()
    rows = []
    for number in range(60):
        label, name = number % 3, f"{number:02}.png"
        pixels = draw.integers(0, 150, (16, 16, 3), np.uint8)
        pixels[:, :, label] += 100
        Image.fromarray(pixels).save(ingest / name)
        content = (ingest / name).read_bytes()
        dealt = "test" if number >= 48 else "val" if number >= 36 else "train"
        rows.append((name, len(content), label, dealt, hashlib.sha256(content).hexdigest()))
    manifest = pl.DataFrame(rows, ["name", "length", "label", "split", "checksum"], orient="row")
    manifest = manifest.with_columns(file="name", offset=0)
    absent = [pl.lit(None).alias(column) for column in SCHEMA if column not in manifest.columns]
    split.mkdir()
    write_manifest(manifest.with_columns(absent), split / "manifest.parquet")
    Classes(names={0: "red", 1: "green", 2: "blue"}).write(ingest / "classes.json")
    IngestReport().write(ingest / "report.json")
    return tmp_path


def run(workspace: Path, params: TrainParams = PARAMS, out: str = "out", seed: int = 0) -> Path:
    folder = workspace / out
    folder.mkdir()
    train(params, seed, "auto", workspace / "ingest", workspace / "split", folder)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def changed(**values: object) -> TrainParams:
    return TrainParams.model_validate(PARAMS.model_dump() | values)


def start(workspace: Path, params: TrainParams) -> "subprocess.Popen[bytes]":
    """Start the step's command line in the workspace, with these params."""
    content = {**reference_params(), "train": params.model_dump(mode="json")}
    (workspace / "params.yaml").write_text(yaml.safe_dump(content))
    command = [
        sys.executable,
        "-m",
        "steps.train",
        "--images",
        "ingest",
        "--split",
        "split",
        "--out",
        "data/train",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=workspace, env=environment, stderr=subprocess.DEVNULL)
