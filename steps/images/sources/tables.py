"""Images in a table (csv or parquet): columns for path and label, and optionally source, group and split."""

import csv
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import polars as pl

from steps.errors import BadInput, Refused, did_you_mean
from steps.images.sources.listing import Listing, Source
from steps.images.sources.one_hot import columns_of_classes, one_hot_sentence
from steps.images.sources.paths import is_there
from steps.images.sources.records import FIELDS, SCHEMA, first, place, records_listing, unread_columns

TABLE_EXTENSIONS = {".csv", ".tsv", ".parquet"}
DELIMITERS = (",", ";", "\t", "|")
ONE_COLUMN = "write one column with the class of each image instead of one column for each class."
LARGEST_WHOLE = 2.0**53  # larger floats cannot represent every whole number


def find_tables(source: Source) -> list[Path]:
    """Return the tables in the folder `source`, sorted; the label file is not a table of images."""
    label_file = source.path / (source.label_names or "")
    tables = (path for path in source.path.iterdir() if path.suffix.lower() in TABLE_EXTENSIONS and path.is_file())
    return sorted(path for path in tables if path != label_file)


def read_tables(source: Source) -> Listing:
    """Return the images of the table `source`, or of the only table in the folder `source`."""
    if source.path.is_file():
        path, root = source.path, source.path.parent
    else:
        path, root = _only_table(source), source.path
    asked = {"path": "path", "label": "label", **source.columns}
    table, first_line = (_parquet(path), 1) if path.suffix.lower() == ".parquet" else _csv(path, source, asked)
    columns = _columns(table, asked, path)
    lines = pl.int_range(first_line, table.height + first_line, dtype=pl.Int64, eager=True).alias("line")
    _refuse_infinities(table.select(set(columns.values())), first_line, path)
    texts = [_as_text(table[column]).alias(field) for field, column in columns.items()]
    absent = [pl.lit(None, dtype=pl.String).alias(field) for field in FIELDS if field not in columns]
    records = pl.DataFrame([*texts, lines]).with_columns(*absent, list=pl.lit(path.name)).select(list(SCHEMA))
    unread = table.select(pl.exclude(list(set(columns.values()))))
    _refuse_columns_of_classes(path, source, table[columns["label"]], unread)
    _refuse_line_breaks(records)
    notes = unread_columns(path.name, {f"'{values.name}'": values for values in unread})
    return records_listing(records, source, root, notes)


def _refuse_columns_of_classes(path: Path, source: Source, label: pl.Series, unread: pl.DataFrame) -> None:
    """Refuse a table with one column for each class; a column that is called `label` holds the class."""
    column = source.columns.get("label")
    found = columns_of_classes(unread, label) if column is not None and source.labels == "auto" else None
    if found and (found[0] == "one" or isinstance(column, int)):
        raise Refused(f"{path.name}: {one_hot_sentence(found)}.")


def _refuse_line_breaks(records: pl.DataFrame) -> None:
    """Refuse a path or label with a line break: an unclosed quote takes the next lines into one field."""
    row = first((records["path"] + records["label"]).str.contains("\n", literal=True).fill_null(value=False))
    if row is not None:
        raise Refused(f"{place(records, row)}: a field has a line break; close or remove its double quote.")


def _only_table(source: Source) -> Path:
    folder, tables = source.path, find_tables(source)
    if not tables:
        raise BadInput(f"ingest.source: {folder} holds no .csv, .tsv or .parquet file; name the table to read.")
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise Refused(f"{folder} holds several tables: {names}. Let ingest.source name the table to read.")
    return tables[0]


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise Refused(f"{path} cannot be read as parquet: {_one_line(fault)}.") from fault


def _csv(path: Path, source: Source, asked: Mapping[str, str | int]) -> tuple[pl.DataFrame, int]:
    """Return the table, with all columns as text, and the number of the first line after the header."""
    delimiter = source.delimiter
    if delimiter != "auto" and len(delimiter) != 1:
        raise BadInput(f"ingest.delimiter: '{delimiter}' must be one character for a table.")
    try:
        with path.open(encoding="utf-8-sig") as file:
            first_line = file.readline()
    except (OSError, UnicodeDecodeError) as fault:
        raise Refused(f"{path} cannot be read as a table: {_one_line(fault)}.") from fault
    separator = max(DELIMITERS, key=first_line.count) if delimiter == "auto" else delimiter
    read = partial(pl.read_csv, path, separator=separator, infer_schema=False, glob=False)
    try:
        lines = read(has_header=False, n_rows=2).rows()
        has_header = not _begins_with_record(lines, asked, path.parent)
        if has_header:
            _refuse_repeats(lines[0], path)
        return read(has_header=has_header), 1 + has_header
    except (OSError, pl.exceptions.PolarsError) as fault:
        sentence = _why_no_table(path, separator) or f"{path} cannot be read as a table: {_one_line(fault)}."
        raise Refused(sentence) from fault


def _why_no_table(path: Path, separator: str) -> str | None:
    """Return a sentence about the first line with too many fields or an open quote; None where there is none."""
    broken = None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator)
            width, begin = len(next(reader, [])), reader.line_num + 1
            for fields in reader:
                if len(fields) > width:
                    return (
                        f"{path} line {begin} has {len(fields)} fields, but line 1 has {width}. Write the same "
                        "fields in each line, and put a field that contains the delimiter into double quotes."
                    )
                if broken is None and any("\n" in field for field in fields):
                    broken = f"{path} line {begin}: a field has a line break; close or remove its double quote."
                begin = reader.line_num + 1
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    return broken


def _begins_with_record(lines: Sequence[Sequence[str | None]], asked: Mapping[str, str | int], root: Path) -> bool:
    """Tell whether the first line describes an image, so that the table has no header.

    A table whose columns are asked for by name has a header. Otherwise the first line describes an image if its
    path leads to a file or has the same extension as the second line's path. The extension matters because a
    missing image must be reported, and not taken for a header.
    """
    number = asked["path"]
    if any(isinstance(column, str) for column in asked.values()) or not isinstance(number, int):
        return False
    paths = [(line[number] or "").strip() for line in lines if number < len(line)]
    suffixes = [Path(path).suffix.lower() for path in paths]
    same_suffix = len(paths) > 1 and suffixes[0] == suffixes[1] != ""
    return same_suffix or (bool(paths) and is_there(root, paths[0]))


def _refuse_repeats(header: Sequence[str | None], path: Path) -> None:
    """Refuse two columns with the same name, because the name would be ambiguous."""
    for number, name in enumerate(header):
        if name is not None and name in header[:number]:
            raise Refused(f"{path} has several columns called '{name}'; rename all but one of them.")


def _columns(table: pl.DataFrame, asked: Mapping[str, str | int], path: Path) -> dict[str, str]:
    """Return {field: column's name}: the columns asked for; for other fields the column of the same name."""
    columns = {field: field for field in FIELDS if field in table.columns}
    for field, column in asked.items():
        name = table.columns[column] if isinstance(column, int) and column < table.width else column
        if name not in table.columns:
            guess = did_you_mean(str(column), table.columns)
            has = ", ".join(table.columns[:20])
            found = columns_of_classes(table) if field == "label" else None
            classes = f" {found[1]} of these columns hold only 0 and 1: {ONE_COLUMN}" if found else ""
            raise BadInput(
                f"ingest.columns.{field}: {path.name} has no column '{column}'; it has {has}.{guess}{classes}"
            )
        columns[field] = str(name)
    return columns


def _refuse_infinities(table: pl.DataFrame, first_line: int, path: Path) -> None:
    for values in table.select(pl.selectors.float()):
        row = first(values.is_infinite().fill_null(value=False))
        if row is not None:
            raise Refused(
                f"{path} line {row + first_line}: the column '{values.name}' holds {values[row]}; correct it."
            )


def _as_text(values: pl.Series) -> pl.Series:
    """Return the column as text, with whole numbers of any type as integers and NaN as null."""
    if values.dtype.is_nested() or values.dtype == pl.Binary:
        raise Refused(f"the column '{values.name}' holds {values.dtype}; it must hold text or numbers.")
    if not values.dtype.is_float():
        return values.cast(pl.String)
    values = values.fill_nan(None)
    is_whole = (values == values.round()) & (values.abs() < LARGEST_WHOLE)
    return values.cast(pl.Int64 if is_whole.all() else values.dtype).cast(pl.String)


def _one_line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:200]
