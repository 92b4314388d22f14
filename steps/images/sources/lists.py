"""Images in list files, as PaddleClas writes them: `path label` on each line, and optionally more columns.

A list file does not state its delimiter, and paths may contain the delimiter. So each possible reading is tried on
the first lines, and the reading under which most paths exist is taken.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import polars as pl

from steps.errors import BadInput, Refused
from steps.images.manifest import SPLITS
from steps.images.sources.listing import LabelKind, Listing, Source
from steps.images.sources.one_hot import columns_of_classes, one_hot_sentence
from steps.images.sources.paths import is_inside, is_there, path_hint
from steps.images.sources.records import FIELDS, SCHEMA, records_listing, unread_columns
from steps.images.sources.text_lines import Line, numbered_lines

LIST_EXTENSIONS = {".txt", ".lst", ".list"}
LIST_NAMES = {f"{split}_list.txt": split for split in SPLITS}
DELIMITERS = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a bar", " ": "blanks"}
LOOK_AT = 200  # lines that decide between the readings


class Reading(NamedTuple):
    """A way to split a line into fields: at every delimiter (`splits` = -1), or only at the last `splits` ones."""

    delimiter: str
    splits: int

    def fields(self, line: str) -> list[str]:
        """Return the line's fields, without surrounding blanks."""
        if self.delimiter == " ":
            return line.rsplit(None, self.splits) if self.splits > 0 else line.split()
        if self.splits > 0:
            return [field.strip() for field in line.rsplit(self.delimiter, self.splits)]
        if len(self.delimiter) == 1 and '"' in line:
            return [field.strip() for field in next(csv.reader([line], delimiter=self.delimiter))]
        return [field.strip() for field in line.split(self.delimiter)]


class ListFormat(NamedTuple):
    """The list format in params.yaml: {field: column's number or name}, and a delimiter or "auto"."""

    columns: Mapping[str, str | int]
    delimiter: str

    @property
    def by_name(self) -> bool:
        """Tell whether the first line contains the columns' names."""
        return any(isinstance(column, str) for column in self.columns.values())


def find_lists(folder: Path) -> dict[str, str]:
    """Return {split: file} of the lists in `folder` with the usual names."""
    return {split: name for name, split in LIST_NAMES.items() if (folder / name).is_file()}


def read_lists(source: Source) -> Listing:
    """Return the images of the lists in the folder `source`, with their splits, or of the list `source` itself."""
    root = source.path if source.path.is_dir() else source.path.parent
    list_format = ListFormat({"path": 0, "label": 1, **source.columns}, source.delimiter)
    lists = _lists_of(source)
    read = [_read_list(root, file, split, list_format, source.labels) for split, file in lists.items()]
    notes = chain.from_iterable(notes for _, notes in read)
    return records_listing(pl.concat([records for records, _ in read]), source, root, tuple(notes))


def _lists_of(source: Source) -> Mapping[str, str]:
    """Return {split: file in the root}; the key is "all" for a single list without split."""
    if source.path.is_file():
        return {"all": source.path.name}
    lists = source.lists or find_lists(source.path)
    if not lists:
        raise BadInput(
            f"ingest.lists: {source.path} has none of the files {', '.join(LIST_NAMES)}; name its lists, such as "
            "{train: my_train.txt, val: my_val.txt}."
        )
    for split, file in lists.items():
        if not is_inside(source.path, source.path / file):
            raise BadInput(
                f"ingest.lists.{split}: {file} lies outside {source.path}, and DVC watches only that folder; move "
                "the list there."
            )
    return lists


def _read_list(
    root: Path, file: str, split: str, list_format: ListFormat, labels: LabelKind
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the records of one list, and notes. A split in a record's own column precedes the list's split."""
    lines = numbered_lines(root / file, "ingest.lists")
    header, lines = (lines[:1], lines[1:]) if list_format.by_name else ([], lines)
    reading, columns = _best_reading(root, file, header, lines, list_format)
    table = _fields(file, lines, reading, columns)
    records = table.select(pl.col(str(column)).alias(field) for field, column in columns.items())
    unread = table.select(pl.exclude([str(column) for column in columns.values()]))
    unread = unread.select(values for values in unread if (values != "").any())
    _refuse_columns_of_classes(file, records["label"], unread, labels)
    if reading.delimiter == " " and list_format.delimiter == "auto" and set(columns) == {"path", "label"}:
        _refuse_blanks_in_names(file, lines, records["label"], unread)
    numbers = pl.Series("line", [number for number, _ in lines], dtype=pl.Int64)
    absent = [pl.lit(None, dtype=pl.String).alias(field) for field in FIELDS if field not in columns]
    records = records.with_columns(numbers, *absent, list=pl.lit(file))
    if split != "all":
        records = records.with_columns(pl.col("split").fill_null(split))
    names = reading.fields(header[0][1]) if header else []
    titles = {str(number): f"'{name}'" for number, name in enumerate(names)}
    notes = unread_columns(file, {titles.get(values.name, f"column {values.name}"): values for values in unread})
    return records.select(list(SCHEMA)), notes


def _refuse_columns_of_classes(file: str, label: pl.Series, unread: pl.DataFrame, labels: LabelKind) -> None:
    found = columns_of_classes(unread, label) if labels == "auto" else None
    if found:
        raise Refused(f"{file}: {one_hot_sentence(found)}.")


def _refuse_blanks_in_names(file: str, lines: Sequence[Line], label: pl.Series, unread: pl.DataFrame) -> None:
    """Refuse names of classes with blanks in a list separated by blanks: only the first word would be read."""
    if unread.width and not label.str.contains(r"^[+-]?[0-9.]+$").all():
        number, text = lines[0]
        raise Refused(
            f"{file} line {number}: '{text[:100]}' has {unread.width} more field(s) than a path and a label. If "
            "names of classes contain blanks, separate the fields by tabs. If the further fields are not to be "
            "read, set ingest.delimiter: ' '."
        )


def _fields(file: str, lines: Sequence[Line], reading: Reading, columns: Mapping[str, int]) -> pl.DataFrame:
    """Return all fields of all lines, in columns called "0", "1", ...; refuse a line with fewer or more fields."""
    needed = max(columns.values()) + 1
    between = DELIMITERS.get(reading.delimiter, repr(reading.delimiter))
    rows: list[list[str]] = []
    for number, text in lines:
        fields = reading.fields(text)
        if len(fields) < needed:
            raise Refused(
                f"{file} line {number}: '{text[:100]}' has {len(fields)} field(s), separated by {between}; "
                f"{needed} are needed."
            )
        rows.append(fields)
    if len({len(fields) for fields in rows}) > 1:
        rows = [_without_empty_end(fields, needed) for fields in rows]
    width = len(rows[0]) if rows else needed
    odd = next((row for row, fields in enumerate(rows) if len(fields) != width), None)
    if odd is not None:
        number, text = lines[odd]
        raise Refused(
            f"{file} line {number}: '{text[:100]}' has {len(rows[odd])} fields, separated by {between}, but line "
            f"{lines[0][0]} has {width}. Write the same fields in each line. If paths or names contain the "
            "delimiter, use another delimiter, such as a tab."
        )
    return pl.DataFrame(rows, schema=[(str(column), pl.String()) for column in range(width)], orient="row")


def _without_empty_end(fields: list[str], needed: int) -> list[str]:
    """Return the fields without empty fields after the last needed field: some lines end in a delimiter."""
    used = max((number for number, field in enumerate(fields, start=1) if field), default=0)
    return fields[: max(used, needed)]


def _best_reading(
    root: Path, file: str, header: Sequence[Line], lines: Sequence[Line], list_format: ListFormat
) -> tuple[Reading, dict[str, int]]:
    """Return the reading under which most of the first paths exist, and its {field: column's number}."""
    best, most = None, 0
    for reading in _readings(list_format):
        columns = _column_numbers(reading, header, list_format)
        if columns is None:
            continue
        existing = sum(_path_exists(root, reading, text, columns) for _, text in lines[:LOOK_AT])
        if existing > most:
            best, most = (reading, columns), existing
    if best is None:
        raise Refused(_why_no_reading(root, file, header, lines, list_format))
    return best


def _readings(list_format: ListFormat) -> Iterator[Reading]:
    """Yield the readings to try, the most likely first."""
    for delimiter in DELIMITERS if list_format.delimiter == "auto" else [list_format.delimiter]:
        yield Reading(delimiter, -1)
        if list_format.columns["path"] == 0 and not list_format.by_name:
            yield Reading(delimiter, max(int(column) for column in list_format.columns.values()))


def _column_numbers(reading: Reading, header: Sequence[Line], list_format: ListFormat) -> dict[str, int] | None:
    """Return {field: column's number}, or None if the first line lacks a name under this reading."""
    names = reading.fields(header[0][1]) if header else []
    numbers = {}
    for field, column in list_format.columns.items():
        if isinstance(column, str) and column not in names:
            return None
        numbers[field] = names.index(column) if isinstance(column, str) else column
    return numbers


def _path_exists(root: Path, reading: Reading, line: str, columns: Mapping[str, int]) -> bool:
    """Tell whether the line has all its fields and its path leads to a file."""
    fields = reading.fields(line)
    return len(fields) > max(columns.values()) and is_there(root, fields[columns["path"]])


def _why_no_reading(
    root: Path, file: str, header: Sequence[Line], lines: Sequence[Line], list_format: ListFormat
) -> str:
    if not lines:
        return f"{root / file} lists no images; there is nothing to read."
    all_columns = [_column_numbers(reading, header, list_format) for reading in _readings(list_format)]
    if list_format.by_name and not any(all_columns):
        asked = ", ".join(f"'{column}'" for column in list_format.columns.values() if isinstance(column, str))
        return f"{file}: its first line, '{header[0][1][:100]}', does not have the ingest.columns {asked}."
    hint = _hint(root, lines, list_format)
    if hint:
        return f"{file}: no image of its first {len(lines[:LOOK_AT])} line(s) exists: {hint}."
    return (
        f"{file}: no image of its first {len(lines[:LOOK_AT])} line(s) exists, e.g. '{lines[0][1][:100]}'. Paths "
        f"are relative to {root}; see ingest.source, ingest.delimiter and ingest.columns."
    )


def _hint(root: Path, lines: Sequence[Line], list_format: ListFormat) -> str | None:
    """Return how the path in the first line can be corrected, under the first reading that leads to a file."""
    if list_format.by_name:
        return None
    column = int(list_format.columns["path"])
    readings = [reading.fields(lines[0][1]) for reading in _readings(list_format)]
    hints = (path_hint(root, fields[column]) for fields in readings if column < len(fields))
    return next((hint for hint in hints if hint), None)
