"""Images in a table, csv or parquet, with columns for path and label and perhaps source, group and split."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from steps.errors import BadInput, Refused, did_you_mean
from steps.images.sources.listing import Listing, Source
from steps.images.sources.records import FIELDS, SCHEMA, records_listing

TABLE_EXTENSIONS = {".csv", ".tsv", ".parquet"}
DELIMITERS = (",", ";", "\t", "|")


def find_tables(folder: Path) -> list[Path]:
    """Return the tables in `folder`, sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLE_EXTENSIONS and path.is_file())


def read_tables(source: Source) -> Listing:
    """Return the images of the table `source`, or of the one table in the folder `source`."""
    if source.path.is_file():
        path, root = source.path, source.path.parent
    else:
        path, root = _only_table(source.path), source.path
    table = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path, source.delimiter)
    columns = _columns(table, source.columns, path)
    said = [_as_text(table[column]).alias(field) for field, column in columns.items()]
    nothing = [pl.lit(None, dtype=pl.String).alias(field) for field in FIELDS if field not in columns]
    first_line = 1 if path.suffix.lower() == ".parquet" else 2
    lines = pl.int_range(first_line, table.height + first_line, dtype=pl.Int64, eager=True).alias("line")
    records = pl.DataFrame([*said, lines]).with_columns(*nothing, list=pl.lit(path.name)).select(list(SCHEMA))
    return records_listing(records, source, root)


def _only_table(folder: Path) -> Path:
    tables = find_tables(folder)
    if len(tables) != 1:
        held = ", ".join(path.name for path in tables) or "no .csv, .tsv or .parquet file"
        raise BadInput(f"ingest.source: {folder} holds {held}; name the one table that is meant.")
    return tables[0]


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise Refused(f"{path} cannot be read as parquet: {_one_line(fault)}.") from fault


def _csv(path: Path, delimiter: str) -> pl.DataFrame:
    """Return the table, all columns as text; "auto" is the delimiter that the first line holds most of."""
    if delimiter != "auto" and len(delimiter) != 1:
        raise BadInput(f"ingest.delimiter: '{delimiter}' is not one letter, as a table's is.")
    try:
        with path.open(encoding="utf-8-sig") as file:
            first_line = file.readline()
        one = max(DELIMITERS, key=first_line.count) if delimiter == "auto" else delimiter
        return pl.read_csv(path, separator=one, infer_schema=False, glob=False)
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as fault:
        raise Refused(f"{path} cannot be read as a table: {_one_line(fault)}.") from fault


def _columns(table: pl.DataFrame, asked: Mapping[str, str | int], path: Path) -> dict[str, str]:
    """Return {field: column's name}: what was asked for, else the columns that are called as the field is."""
    columns = {field: field for field in FIELDS if field in table.columns}
    for field, column in {"path": "path", "label": "label", **asked}.items():
        name = table.columns[column] if isinstance(column, int) and column < table.width else column
        if name not in table.columns:
            guess = did_you_mean(str(column), table.columns)
            has = ", ".join(table.columns[:20])
            raise BadInput(f"ingest.columns.{field}: {path.name} has no column '{column}'; it has {has}.{guess}")
        columns[field] = str(name)
    return columns


def _as_text(values: pl.Series) -> pl.Series:
    """Return the column as text; whole numbers stay whole, whatever their type."""
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        raise Refused(f"the column '{values.name}' holds {values.dtype}; text or numbers are read.")
    if values.dtype.is_float() and (values.drop_nulls() == values.drop_nulls().round()).all():
        return values.cast(pl.Int64).cast(pl.String)
    return values.cast(pl.String)


def _one_line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:200]
