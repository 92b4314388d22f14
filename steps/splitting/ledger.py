"""The ledger: the split of each content and each group in accepted releases. The split of a key never changes.

A key is the first 8 bytes of the sha256 of the image's bytes, or of its group's name. A key does not depend on the
label, so a corrected label moves no image. Among 43 million keys, a collision has a probability of 5 in 100,000.
"""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from steps.errors import BadInput
from steps.images.manifest import SPLITS

UNPLACED = np.uint8(255)
SCHEMA = {"key": pl.UInt64(), "split": pl.UInt8()}
Keys = npt.NDArray[np.uint64]
Places = npt.NDArray[np.uint8]  # an index into SPLITS, or UNPLACED


def content_keys(images: pl.DataFrame) -> Keys:
    """Return the key of each image's content, from the checksum column, which is a sha256."""
    first_bytes = pl.col("checksum").str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64)
    return images.select(first_bytes).to_series().to_numpy()


def group_keys(images: pl.DataFrame) -> tuple[Keys, npt.NDArray[np.bool_]]:
    """Return the key of each image's group (0 for an image without group), and which images have a group."""
    names = images.get_column("group").unique().drop_nulls()
    keys = pl.Series([_key_of_group(name) for name in names], dtype=pl.UInt64)
    known = pl.DataFrame({"group": names, "key": keys})
    of_image = images.select("group").join(known, on="group", how="left", maintain_order="left")
    return (
        of_image.get_column("key").fill_null(0).to_numpy(),
        of_image.get_column("group").is_not_null().to_numpy(),
    )


def no_ledger() -> pl.DataFrame:
    """Return an empty ledger, for the time before the first accepted release."""
    return pl.DataFrame(schema=SCHEMA)


def read_ledger(path: Path) -> pl.DataFrame:
    """Return the ledger; raise BadInput if the file is missing or is not a ledger, so that no image moves."""
    try:
        ledger = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise BadInput(
            f"{path}, the ledger of the accepted release, cannot be read ({_first_line(fault)}). Pull it again; "
            "without it, images would change their split."
        ) from fault
    if dict(ledger.schema) != SCHEMA or ledger.is_empty() or not _is_sound(ledger):
        raise BadInput(
            f"{path} is not a ledger; a ledger has a column 'key' (u64, sorted, unique) and a column 'split' "
            "(u8, 0 to 2)."
        )
    return ledger


def look_up(ledger: pl.DataFrame, keys: Keys) -> Places:
    """Return the ledger's split of each key, or UNPLACED for an unknown key."""
    if ledger.is_empty():
        return np.full(len(keys), UNPLACED)
    known = ledger.get_column("key").to_numpy()
    position = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[position] == keys, ledger.get_column("split").to_numpy()[position], UNPLACED)


def extended(ledger: pl.DataFrame, keys: Keys, places: Places) -> pl.DataFrame:
    """Return the sorted ledger with the new keys added; existing keys stay as they are.

    A key that ready-made splits put into several splits is not added, because it has no single split.
    """
    new = pl.DataFrame({"key": keys, "split": places}, schema=SCHEMA).group_by("key")
    placed = new.agg(pl.col("split").min(), pl.col("split").max().alias("last"))
    placed = placed.filter(pl.col("split") == pl.col("last")).drop("last")
    return pl.concat([ledger, placed.join(ledger, on="key", how="anti")]).sort("key")


def _key_of_group(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"group\0{name}".encode()).digest()[:8], "big")


def _is_sound(ledger: pl.DataFrame) -> bool:
    keys = ledger.get_column("key").to_numpy()
    ordered = bool((keys[1:] > keys[:-1]).all())
    return (
        ordered and ledger.null_count().row(0) == (0, 0) and bool((ledger.get_column("split") < len(SPLITS)).all())
    )


def _first_line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0]
