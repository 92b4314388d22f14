"""From the text records of lists and tables to a checked Listing; all splits share one map of labels."""

from pathlib import Path

import polars as pl

from steps.errors import Refused, did_you_mean
from steps.images.sources.labels import names_in_label_file, number_classes
from steps.images.sources.listing import REAL, SPLIT_NAMES, Listing, Source, plain_files
from steps.images.sources.paths import relative_to_root

SHOWN = 3
FIELDS = ("path", "label", "source", "group", "split")
SCHEMA = {
    **dict.fromkeys(FIELDS, pl.String),
    "list": pl.String,
    "line": pl.Int64,
}  # `list` and `line` tell people where a record is


def records_listing(records: pl.DataFrame, source: Source, root: Path) -> Listing:
    """Return the listing of `records` (columns of SCHEMA, null for empty fields); paths are relative to `root`."""
    if records.is_empty():
        raise Refused(f"{source.path} lists no images; there is nothing to read.")
    _refuse_gaps(records)
    files = _files(records, root)
    _refuse_repeats(records, files)
    labels = records["label"].str.strip_chars()
    ids, class_names, notes = number_classes(
        dict(labels.value_counts().iter_rows()),
        source.labels,
        names_in_label_file(source),
        lambda label: _place_of(records, labels, label),
    )
    rows = plain_files(
        file=files,
        label=labels.replace_strict(ids, return_dtype=pl.Int64),
        split=_splits(records),
        source=_stripped(records["source"]).fill_null(REAL),
        group=_stripped(records["group"]),
    )
    return Listing(root=root, rows=rows, class_names=class_names, notes=notes + _unwatched(source))


def place(records: pl.DataFrame, row: int) -> str:
    """Return the list and line of record `row`, for people."""
    name, line = records.row(row)[-2:]
    return f"{name} line {line}"


def first(mask: pl.Series) -> int | None:
    """Return the first row where `mask` is true, or None."""
    return mask.arg_max() if mask.any() else None


def _place_of(records: pl.DataFrame, labels: pl.Series, label: str) -> str:
    """Return the places of the first records with `label`, each with its image."""
    rows = (labels == label).arg_true()
    places = [f"{place(records, row)} ('{records['path'][row]}')" for row in rows.head(SHOWN)]
    return ", ".join(places) + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")


def _refuse_gaps(records: pl.DataFrame) -> None:
    for field in ("path", "label"):
        row = first(records[field].is_null() | (records[field].str.strip_chars() == ""))
        if row is not None:
            raise Refused(f"{place(records, row)} has no {field}; each image needs a path and a label.")


def _files(records: pl.DataFrame, root: Path) -> pl.Series:
    normal = [relative_to_root(path, root) for path in records["path"]]
    if None in normal:
        row = normal.index(None)
        raise Refused(
            f"{place(records, row)}: the path '{records['path'][row]}' leads out of {root}; move the image into "
            "this folder."
        )
    return pl.Series("file", normal, dtype=pl.String)


def _refuse_repeats(records: pl.DataFrame, files: pl.Series) -> None:
    """Refuse an image that is listed twice: the copies could land in two splits, or have two different labels."""
    again = first(~files.is_first_distinct())
    if again is not None:
        before = first(files == files[again])
        assert before is not None
        labels = sorted({records["label"][before], records["label"][again]})
        both_labels = f", with the labels {' and '.join(labels)}" if len(labels) > 1 else ""
        raise Refused(
            f"{place(records, again)}: '{files[again]}' was already listed at {place(records, before)}"
            f"{both_labels}; list each image once."
        )


def _splits(records: pl.DataFrame) -> pl.Series:
    names = _stripped(records["split"])
    split = names.str.to_lowercase().replace_strict(SPLIT_NAMES, default=None, return_dtype=pl.String)
    row = first(split.is_null() & names.is_not_null())
    if row is not None:
        guess = did_you_mean(names[row], SPLIT_NAMES)
        raise Refused(
            f"{place(records, row)}: '{names[row]}' is not a split; write train, val or test, or leave the field "
            f"empty.{guess}"
        )
    return split


def _unwatched(source: Source) -> tuple[str, ...]:
    """Return a note where DVC does not watch the images that the source names."""
    if source.path.is_dir():
        return ()
    return (
        f"DVC watches only the file {source.path}, so it does not notice when the listed images change; let "
        "ingest.source name the folder to watch them too",
    )


def _stripped(texts: pl.Series) -> pl.Series:
    """Return the texts without surrounding blanks, and null for empty texts."""
    stripped = texts.str.strip_chars()
    return stripped.set(stripped == "", None)
