"""The argument of every layout (a Source) and its result (a Listing)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

LabelKind = Literal["auto", "ids", "names"]
SimilarNames = Literal["refuse", "keep"]
SPLIT_NAMES = {  # usual names of splits -> manifest.SPLITS
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
REAL = "real"  # the default `source` of an image
ROWS: dict[str, pl.DataType] = {
    "name": pl.String(),
    "file": pl.String(),
    "offset": pl.Int64(),
    "length": pl.Int64(),  # -1: the whole file
    "label": pl.Int64(),
    "source": pl.String(),
    "group": pl.String(),
    "split": pl.String(),
}


@dataclass(frozen=True)
class Source:
    """The user's params about the images; `steps.params.ingest` explains each field."""

    path: Path
    lists: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = "auto"
    columns: Mapping[str, str | int] = field(default_factory=dict)
    labels: LabelKind = "auto"
    label_names: str | None = None
    alike_names: SimilarNames = "refuse"


@dataclass(frozen=True)
class Listing:
    """The images that a source names, not yet opened. `rows` has the columns of ROWS.

    Where the source has no image files, `pixels` holds the images (each HW_u8, grey) in the order of the rows.
    """

    root: Path
    rows: pl.DataFrame
    class_names: dict[int, str]
    pixels: Sequence[npt.NDArray[np.uint8]] | None = None
    skipped: tuple[str, ...] = ()  # files and folders/ that are clearly not images
    bad_names: tuple[str, ...] = ()  # files whose names are not UTF-8, as written in the rows
    notes: tuple[str, ...] = ()


Values = Sequence[str | None] | Sequence[int] | pl.Series


def plain_files(
    file: Values, label: Values, split: Values, source: Values | None = None, group: Values | None = None
) -> pl.DataFrame:
    """Return the rows of images that are whole files; an image's path is also its name."""
    count = len(file)
    columns = {
        "name": file,
        "file": file,
        "offset": [0] * count,
        "length": [-1] * count,
        "label": label,
        "source": [REAL] * count if source is None else source,
        "group": [None] * count if group is None else group,
        "split": split,
    }
    return pl.DataFrame({name: pl.Series(name, columns[name], dtype=kind) for name, kind in ROWS.items()})
