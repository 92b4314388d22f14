"""manifest.parquet: one row an image. It says where the bytes lie, what they are, and what is wrong with them.

A row holds (file, offset, length), so that plain files and tar shards are read alike, without unpacking.
"""

from pathlib import Path

import polars as pl

from steps.errors import BadInput

SPLITS = ("train", "val", "test")  # the values of the column `split`
TRAIN, VAL, TEST = range(len(SPLITS))  # their places in SPLITS, as arrays hold them

SCHEMA: dict[str, pl.DataType] = {
    "name": pl.String(),  # the image's name for people, unique; equals `file` for plain files
    "file": pl.String(),  # relative to the root that the ingest report names, with forward slashes
    "offset": pl.Int64(),  # bytes from the beginning of `file`
    "length": pl.Int64(),  # bytes; the whole file for plain files
    "label": pl.Int64(),  # class id as found: validate judges its range
    "source": pl.String(),  # where the image comes from, e.g. "real", "synthetic"
    "group": pl.String(),  # images of one group stay in one split; null: the image stands alone
    "split": pl.String(),  # "train", "val" or "test"; null in ingest's manifest unless ready-made
    "checksum": pl.String(),  # sha256 of the bytes, in hex
    "width": pl.Int32(),  # pixels as stored, before EXIF orientation; null if unreadable
    "height": pl.Int32(),
    "mode": pl.String(),  # PIL mode: "L", "RGB", "CMYK", "P", "I;16", ...
    "format": pl.String(),  # PIL format: "JPEG", "PNG", ...
    "frames": pl.Int32(),
    "orientation": pl.Int32(),  # EXIF orientation, 1 where there is none
    "faults": pl.List(pl.String()),  # names from steps.images.faults, empty for a sound image
    "detail": pl.String(),  # what the decoder said, for the person who repairs the file
}


def write_manifest(rows: pl.DataFrame, path: Path) -> None:
    """Write `rows`, ordered by name, with exactly the columns of SCHEMA; `weight` may follow them."""
    extra = [name for name in rows.columns if name not in SCHEMA]
    assert set(extra) <= {"weight"}, extra
    columns = [pl.col(name).cast(kind) for name, kind in SCHEMA.items()]
    rows.select(*columns, *extra).sort("name").write_parquet(path, compression="zstd", statistics=True)


def read_manifest(path: Path, split: str | None = None) -> pl.DataFrame:
    """Return the manifest's rows, of one split if named, ordered by name; BadInput if it is no manifest."""
    try:
        lazy = pl.scan_parquet(path, glob=False)
        missing = [name for name in SCHEMA if name not in lazy.collect_schema()]
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise BadInput(f"{path} cannot be read as a manifest: {fault}") from fault
    if missing:
        raise BadInput(f"{path} is no manifest: it lacks the column(s) {', '.join(missing)}.")
    return (lazy if split is None else lazy.filter(pl.col("split") == split)).collect()
