"""Images in list files, as PaddleClas has them: `path label` a line, and perhaps more columns.

Nothing in such a file says how it is to be read: paths may hold the delimiter. So each reading that fits is tried
on the first lines, and that one is taken whose paths are there.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from steps.errors import BadInput, Refused
from steps.images.manifest import SPLITS
from steps.images.sources.listing import Listing, Source
from steps.images.sources.paths import is_inside, is_there
from steps.images.sources.records import FIELDS, SCHEMA, records_listing

LIST_EXTENSIONS = {".txt", ".lst", ".list"}
LIST_NAMES = {f"{split}_list.txt": split for split in SPLITS}
DELIMITERS = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a bar", " ": "blanks"}
LOOK_AT = 200  # lines, to find the reading
Line = tuple[int, str]  # its number from 1, and its text


class Reading(NamedTuple):
    """How a line falls into fields: at every delimiter, or only at the last `splits` of them (-1: every)."""

    delimiter: str
    splits: int

    def fields(self, line: str) -> list[str]:
        """Return the line's fields, without blanks around them."""
        if self.delimiter == " ":
            return line.rsplit(None, self.splits) if self.splits > 0 else line.split()
        if self.splits > 0:
            return [field.strip() for field in line.rsplit(self.delimiter, self.splits)]
        if len(self.delimiter) == 1 and '"' in line:
            return [field.strip() for field in next(csv.reader([line], delimiter=self.delimiter))]
        return [field.strip() for field in line.split(self.delimiter)]


class How(NamedTuple):
    """What is asked for: {field: column's number, or its name in the first line}, and the delimiter or "auto"."""

    columns: Mapping[str, str | int]
    delimiter: str

    @property
    def by_name(self) -> bool:
        """Whether the first line holds the columns' names."""
        return any(isinstance(column, str) for column in self.columns.values())


def find_lists(folder: Path) -> dict[str, str]:
    """Return {split: file} of the lists in `folder` that have the usual names."""
    return {split: name for name, split in LIST_NAMES.items() if (folder / name).is_file()}


def read_lists(source: Source) -> Listing:
    """Return the images that the lists in `source` name (or `source` itself, a list), with the lists' splits."""
    root = source.path if source.path.is_dir() else source.path.parent
    how = How({"path": 0, "label": 1, **source.columns}, source.delimiter)
    records = [_read_list(root, file, split, how) for split, file in _lists_of(source).items()]
    return records_listing(pl.concat(records), source, root)


def _lists_of(source: Source) -> Mapping[str, str]:
    """Return {split or "all": file in the root}."""
    if source.path.is_file():
        return {"all": source.path.name}
    lists = source.lists or find_lists(source.path)
    if not lists:
        raise BadInput(
            f"ingest.lists: {source.path} holds none of {', '.join(LIST_NAMES)}; name its lists, such as "
            "{train: my_train.txt, val: my_val.txt}."
        )
    for split, file in lists.items():
        if not is_inside(source.path, source.path / file):
            raise BadInput(f"ingest.lists.{split}: {file} lies outside {source.path}, which alone is watched.")
    return lists


def _read_list(root: Path, file: str, split: str, how: How) -> pl.DataFrame:
    """Return the records of one list; what its own column says of the split goes before the list's."""
    lines = _lines(root / file)
    header, lines = (lines[:1], lines[1:]) if how.by_name else ([], lines)
    reading, columns = _best_reading(root, file, header, lines, how)
    records = _fields(file, lines, reading, columns)
    numbers = pl.Series("line", [number for number, _ in lines], dtype=pl.Int64)
    absent = [pl.lit(None, dtype=pl.String).alias(field) for field in FIELDS if field not in columns]
    records = records.with_columns(numbers, *absent, list=pl.lit(file))
    if split != "all":
        records = records.with_columns(pl.col("split").fill_null(split))
    return records.select(list(SCHEMA))


def _lines(path: Path) -> list[Line]:
    """Return the lines that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as fault:
        raise Refused(f"{path} is not UTF-8 (byte {fault.start}); save it as UTF-8.") from fault
    except OSError as fault:
        raise BadInput(f"ingest.lists: {path} cannot be read ({fault.strerror}).") from fault
    lines = enumerate((line.rstrip("\r") for line in text.split("\n")), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def _fields(file: str, lines: Sequence[Line], reading: Reading, columns: Mapping[str, int]) -> pl.DataFrame:
    """Return the wanted fields of all lines, or refuse at the first line that has too few."""
    needed = max(columns.values()) + 1
    rows: dict[str, list[str]] = {field: [] for field in columns}
    for number, text in lines:
        fields = reading.fields(text)
        if len(fields) < needed:
            between = DELIMITERS.get(reading.delimiter, repr(reading.delimiter))
            raise Refused(
                f"{file} line {number}: '{text[:100]}' has {len(fields)} field(s), separated by {between}; "
                f"{needed} are needed."
            )
        for field, column in columns.items():
            rows[field].append(fields[column])
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String))


def _best_reading(
    root: Path, file: str, header: Sequence[Line], lines: Sequence[Line], how: How
) -> tuple[Reading, dict[str, int]]:
    """Return the reading under which most of the first paths are there, and the columns' numbers under it."""
    best, most = None, 0
    for reading in _readings(how):
        columns = _column_numbers(reading, header, how)
        if columns is None:
            continue
        there = sum(_is_there(root, reading, text, columns) for _, text in lines[:LOOK_AT])
        if there > most:
            best, most = (reading, columns), there
    if best is None:
        raise Refused(_why_no_reading(root, file, header, lines, how))
    return best


def _readings(how: How) -> Iterator[Reading]:
    """Yield the readings to try, the likeliest first."""
    for delimiter in DELIMITERS if how.delimiter == "auto" else [how.delimiter]:
        yield Reading(delimiter, -1)
        if how.columns["path"] == 0 and not how.by_name:
            yield Reading(delimiter, max(int(column) for column in how.columns.values()))


def _column_numbers(reading: Reading, header: Sequence[Line], how: How) -> dict[str, int] | None:
    """Return {field: column's number}, or None where the first line lacks a name under this reading."""
    names = reading.fields(header[0][1]) if header else []
    numbers = {}
    for field, column in how.columns.items():
        if isinstance(column, str) and column not in names:
            return None
        numbers[field] = names.index(column) if isinstance(column, str) else column
    return numbers


def _is_there(root: Path, reading: Reading, line: str, columns: Mapping[str, int]) -> bool:
    """Tell whether the line has all its fields and its path leads to something."""
    fields = reading.fields(line)
    return len(fields) > max(columns.values()) and is_there(root, fields[columns["path"]])


def _why_no_reading(root: Path, file: str, header: Sequence[Line], lines: Sequence[Line], how: How) -> str:
    if not lines:
        return f"{root / file} names no image; there is nothing to read."
    if how.by_name and not any(_column_numbers(reading, header, how) for reading in _readings(how)):
        asked = ", ".join(f"'{column}'" for column in how.columns.values() if isinstance(column, str))
        return f"{file}: its first line, '{header[0][1][:100]}', does not hold the ingest.columns {asked}."
    return (
        f"{file}: none of the images of its first {len(lines[:LOOK_AT])} line(s) is there, e.g. "
        f"'{lines[0][1][:100]}'. Paths start at {root}; see ingest.source, ingest.delimiter and ingest.columns."
    )
