"""Manifests of invented images, for tests."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from steps.images.manifest import SCHEMA, write_manifest
from steps.reports.classes import Classes


def checksum(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def manifest(
    labels: Sequence[int],
    contents: Sequence[str] | None = None,
    groups: Sequence[str | None] | None = None,
    splits: Sequence[str | None] | None = None,
    faults: Sequence[Sequence[str]] | None = None,
    first: int = 0,
) -> pl.DataFrame:
    """Return valid 28 x 28 PNGs, numbered from `first`, all of different content unless `contents` is given."""
    count = len(labels)
    names = [f"{number:06}.png" for number in range(first, first + count)]
    columns: dict[str, Sequence[Any]] = {
        "name": names,
        "file": names,
        "offset": [0] * count,
        "length": [100] * count,
        "label": labels,
        "source": ["real"] * count,
        "group": groups or [None] * count,
        "split": splits or [None] * count,
        "checksum": [checksum(content) for content in (contents or names)],
        "width": [28] * count,
        "height": [28] * count,
        "mode": ["L"] * count,
        "format": ["PNG"] * count,
        "frames": [1] * count,
        "orientation": [1] * count,
        "faults": faults or [[]] * count,
        "detail": [None] * count,
    }
    return pl.DataFrame({name: pl.Series(name, columns[name], dtype=kind) for name, kind in SCHEMA.items()})


def write_ingest(images: pl.DataFrame, folder: Path) -> Path:
    """Write the files of ingest that later steps read; class 3 is called "c3"."""
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(images, folder / "manifest.parquet")
    names = {label: f"c{label}" for label in images.get_column("label").unique().to_list()}
    Classes(names=names).write(folder / "classes.json")
    return folder
