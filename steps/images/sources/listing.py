"""What every layout is given (a Source) and gives back (a Listing)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

LabelKind = Literal["auto", "ids", "names"]
SPLIT_NAMES = {  # what people call them -> manifest.SPLITS
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
}  # fmt: skip
REAL = "real"  # the `source` of an image of which nothing else is said
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
    """What the user said about his images; `steps.params.ingest` tells what each means."""

    path: Path
    lists: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = "auto"
    columns: Mapping[str, str | int] = field(default_factory=dict)
    labels: LabelKind = "auto"
    label_names: str | None = None


@dataclass(frozen=True)
class Listing:
    """The images that a source names, not yet opened. `rows` has the columns of ROWS.

    Where the source is no image files, `pixels` holds the images, each HW_u8 grey, in the order of the rows.
    """

    root: Path
    rows: pl.DataFrame
    class_names: dict[int, str]
    pixels: Sequence[npt.NDArray[np.uint8]] | None = None
    skipped: tuple[str, ...] = ()  # files and folders/ that are clearly no images
    bad_names: tuple[str, ...] = ()  # files whose names are not UTF-8, as written in the rows
    notes: tuple[str, ...] = ()


Values = Sequence[str | None] | Sequence[int] | pl.Series


def plain_files(
    file: Values, label: Values, split: Values, source: Values | None = None, group: Values | None = None
) -> pl.DataFrame:
    """Return the rows of images that are whole files, each named by its path."""
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
