"""The file of `ingest.label_names`: the names of the class ids, as lines `id name` or as a small csv."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from steps.errors import BadInput, Refused
from steps.images.sources.listing import Source
from steps.images.sources.paths import is_inside
from steps.images.sources.text_lines import Line, numbered_lines

NUMBERED_NAME = re.compile(r"(-?\d+)[\s,;:]+(.+)")
INTEGER = re.compile(r"-?\d{1,18}")
TABLE_DELIMITERS = {".csv": ",;|\t", ".tsv": "\t"}
ID_HEADERS = {"id", "class_id", "classid", "label_id", "index", "idx", "number"}
NAME_HEADERS = {"name", "names", "class_name", "classname", "label_name", "class", "label", "category"}
LONGEST = 200


def names_in_label_file(source: Source) -> dict[int, str]:
    """Return {id: name} from the file `ingest.label_names`, or {} where the key is not set.

    The label file must lie in the source's folder, because DVC watches only that folder.
    """
    if source.label_names is None:
        return {}
    if not source.path.is_dir():
        raise BadInput(
            f"ingest.label_names: DVC watches only the source, and {source.path} is one file; let ingest.source "
            f"name the folder that holds {source.path.name} and {source.label_names}."
        )
    if not is_inside(source.path, source.path / source.label_names):
        raise BadInput(
            f"ingest.label_names: {source.label_names} lies outside {source.path}, and DVC watches only that "
            "folder; move the label file there."
        )
    return read_label_names(source.path / source.label_names)


def read_label_names(path: Path) -> dict[int, str]:
    """Return {id: name} from lines `id name` (a name may contain spaces), or from one name per line, from id 0.

    A csv or tsv holds a column of ids and a column of names in any order, or one column of names; a header may
    stand above.
    """
    lines = [(number, line.strip()) for number, line in numbered_lines(path, "ingest.label_names")]
    if lines and lines[0][1][0] in "{[":
        raise Refused(f"{path} looks like JSON; write a text file with `id name` in each line.")
    delimiters = TABLE_DELIMITERS.get(path.suffix.lower())
    names = _in_table(path, lines, delimiters) if delimiters else _in_lines(path, lines)
    for number, name in names.items():
        if len(name) > LONGEST:
            raise Refused(
                f"{path}: the name of id {number} ('{name[:50]}...') has {len(name)} letters; at most {LONGEST} "
                "are allowed. Write `id name` in each line, or one name in each line."
            )
    return names


def _in_lines(path: Path, lines: Sequence[Line]) -> dict[int, str]:
    matches = [NUMBERED_NAME.fullmatch(line) for _, line in lines]
    if not any(matches):
        return {number: line for number, (_, line) in enumerate(lines)}
    pairs = []
    for (place, line), match in zip(lines, matches, strict=True):
        if match is None:
            raise Refused(f"{path} line {place}: '{line}' is not `id name`, as the other lines are; correct it.")
        pairs.append((place, match[1], match[2].strip()))
    return _by_id(path, pairs)


def _in_table(path: Path, lines: Sequence[Line], delimiters: str) -> dict[int, str]:
    """Return {id: name} from the lines of a csv or tsv."""
    delimiter = max(delimiters, key=lines[0][1].count) if lines else ","
    rows = [(place, _cells(line, delimiter)) for place, line in lines]
    for place, cells in rows:
        if len(cells) != len(rows[0][1]):
            raise Refused(
                f"{path} line {place} has {len(cells)} fields, but the first line has {len(rows[0][1])}; put a "
                "field that contains the delimiter into double quotes."
            )
    first = [_header_word(cell) for cell in rows[0][1]] if rows else []
    if len(first) <= 1:
        names_only = rows[1:] if first and first[0] in NAME_HEADERS else rows
        return {number: cells[0] for number, (_, cells) in enumerate(names_only)}
    has_header = not any(map(INTEGER.fullmatch, first))  # a line with a name also has an id
    ids, names = _columns(path, first if has_header else [""] * len(first), rows[has_header:])
    return _by_id(path, [(place, cells[ids], cells[names]) for place, cells in rows[has_header:]])


def _columns(path: Path, header: Sequence[str], body: Sequence[tuple[int, list[str]]]) -> tuple[int, int]:
    """Return the numbers of the column of ids and of the column of names; `header` may hold empty texts."""
    width = range(len(header))
    integers = [number for number in width if all(INTEGER.fullmatch(cells[number]) for _, cells in body)]
    ids = [number for number in integers if header[number] in ID_HEADERS] or integers
    texts = [number for number in width if [number] != ids]
    names = texts if len(texts) == 1 else [number for number in texts if header[number] in NAME_HEADERS]
    if not body or len(ids) != 1 or len(names) != 1:
        raise Refused(
            f"{path}: ingest.label_names needs a column of integer ids and a column of names, such as `0,cat` "
            f"below a header `id,name`. This file has {len(header)} columns, and {len(integers)} of these columns "
            "hold only integers."
        )
    return ids[0], names[0]


def _header_word(cell: str) -> str:
    """Return "class_id" for "Class ID (int)"."""
    return re.sub(r"\(.*\)", "", cell).strip().lower().replace(" ", "_")


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]


def _by_id(path: Path, pairs: Sequence[tuple[int, str, str]]) -> dict[int, str]:
    names: dict[int, str] = {}
    for place, written, name in pairs:
        number = int(written)
        if number in names:
            raise Refused(
                f"{path} line {place}: id {number} already has the name '{names[number]}'; an id has one name."
            )
        names[number] = name
    return names
