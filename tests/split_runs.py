"""Runs of the step split and their outputs, for the tests of split."""

import shutil
from pathlib import Path

import polars as pl

from steps.images.issues import SCHEMA, write_issues
from steps.images.manifest import read_manifest
from steps.reports.release import write_sums
from steps.reports.split import SplitReport
from steps.reports.validate import ValidateReport
from steps.split import split
from tests.commands import Workspace
from tests.images.rows import write_ingest

OUT = Path("data/split")
FLAGS = {"ingest": "data/ingest", "validate": "data/validate", "champion": "data/champion", "out": "data/split"}


def run_split(workspace: Workspace, images: pl.DataFrame, dropped: tuple[str, ...] = ()) -> tuple[int, str]:
    """Split the images; `dropped` lists those that validate dropped."""
    write_ingest(images, Path("data/ingest"))
    Path("data/validate").mkdir(exist_ok=True)
    ValidateReport().write(Path("data/validate/report.json"))
    rows = [(name, 0, "unreadable", "truncated", True) for name in dropped]
    rows += [(images["name"][-1], 0, "duplicates", "a note", False)]
    write_issues(pl.DataFrame(rows, schema=SCHEMA, orient="row"), Path("data/validate/issues.parquet"))
    return workspace.run(split, **FLAGS)


def accept(folder: Path = OUT) -> None:
    """Make the split in `folder` the split of the champion."""
    Path("data/champion/release").mkdir(exist_ok=True)
    shutil.copy(folder / "ledger.parquet", "data/champion/release/ledger.parquet")
    write_sums(Path("data/champion/release"))
    Path("data/champion/champion.json").write_text('{"accepted": true}')


def report() -> SplitReport:
    return SplitReport.read(OUT / "report.json")


def placed() -> dict[str, str]:
    return dict(read_manifest(OUT / "manifest.parquet").select("name", "split").rows())
