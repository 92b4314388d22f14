"""issues.parquet: every image that breaks an expectation, and whether the splits leave that image out."""

from pathlib import Path

import polars as pl

from steps.errors import BadInput

SCHEMA: dict[str, pl.DataType] = {
    "name": pl.String(),  # as in the manifest
    "label": pl.Int64(),
    "check": pl.String(),  # the expectation, as in validate's report
    "detail": pl.String(),  # what is wrong with this image
    "dropped": pl.Boolean(),  # true: no split may contain this image
}


def write_issues(issues: pl.DataFrame, path: Path) -> None:
    """Write the issues with exactly the columns of SCHEMA, ordered by name and check."""
    columns = [pl.col(name).cast(kind) for name, kind in SCHEMA.items()]
    issues.select(columns).sort("name", "check", "detail").write_parquet(path, compression="zstd", statistics=True)


def read_dropped(path: Path) -> pl.Series:
    """Return the names of the images that no split may contain; raise BadInput if the file cannot be read."""
    try:
        dropped = pl.scan_parquet(path, glob=False).filter("dropped").select("name").unique().collect()
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise BadInput(
            f"{path} cannot be read as validate's list of issues; run validate again: {fault}"
        ) from fault
    return dropped.get_column("name")
