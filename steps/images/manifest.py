"""manifest.parquet: one row per image, with the place of its bytes, its facts and its faults.

A row has (file, offset, length), so that plain files and images inside tar files are read in the same way.
"""

from pathlib import Path

import polars as pl

from steps.errors import BadInput

SPLITS = ("train", "val", "test")  # the values of the column `split`
TRAIN, VAL, TEST = range(len(SPLITS))  # positions in SPLITS; arrays hold these numbers

SCHEMA: dict[str, pl.DataType] = {
    "name": pl.String(),  # the image's name for people, unique; equals `file` for plain files
    "file": pl.String(),  # relative to the root that the ingest report names, with forward slashes
    "offset": pl.Int64(),  # bytes from the beginning of `file`
    "length": pl.Int64(),  # bytes; the whole file for plain files
    "label": pl.Int64(),  # class id as found; validate checks its range
    "source": pl.String(),  # the origin of the image, e.g. "real", "synthetic"
    "group": pl.String(),  # all images of a group go to one split; null: no group
    "split": pl.String(),  # "train", "val" or "test"; null in ingest's manifest unless the user gave splits
    "checksum": pl.String(),  # sha256 of the bytes, in hex
    "width": pl.Int32(),  # pixels as stored, before EXIF orientation; null if unreadable
    "height": pl.Int32(),
    "mode": pl.String(),  # PIL mode: "L", "RGB", "CMYK", "P", "I;16", ...
    "format": pl.String(),  # PIL format: "JPEG", "PNG", ...
    "frames": pl.Int32(),
    "orientation": pl.Int32(),  # EXIF orientation, 1 where there is none
    "faults": pl.List(pl.String()),  # names from steps.images.faults, empty for a sound image
    "detail": pl.String(),  # the decoder's error message, for the person who repairs the file
}


def write_manifest(rows: pl.DataFrame, path: Path) -> None:
    """Write `rows`, ordered by name, with exactly the columns of SCHEMA and, if present, `weight`."""
    extra = [name for name in rows.columns if name not in SCHEMA]
    assert set(extra) <= {"weight"}, extra
    columns = [pl.col(name).cast(kind) for name, kind in SCHEMA.items()]
    rows.select(*columns, *extra).sort("name").write_parquet(path, compression="zstd", statistics=True)


def read_manifest(path: Path, split: str | None = None) -> pl.DataFrame:
    """Return the rows ordered by name, only those of `split` if it is given; raise BadInput for another file."""
    try:
        lazy = pl.scan_parquet(path, glob=False)
        missing = [name for name in SCHEMA if name not in lazy.collect_schema()]
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise BadInput(f"{path} cannot be read as a manifest: {fault}") from fault
    if missing:
        raise BadInput(f"{path} is not a manifest: the column(s) {', '.join(missing)} are missing.")
    return (lazy if split is None else lazy.filter(pl.col("split") == split)).collect()
