"""From the records of lists and tables, as text, to a listing: checked, and labelled by one map."""

from pathlib import Path

import polars as pl

from steps.errors import Refused, did_you_mean
from steps.images.sources.labels import given_names, number_classes
from steps.images.sources.listing import REAL, SPLIT_NAMES, Listing, Source, plain_files
from steps.images.sources.paths import relative_to_root

SHOWN = 3
FIELDS = ("path", "label", "source", "group", "split")
SCHEMA = {
    **dict.fromkeys(FIELDS, pl.String),
    "list": pl.String,
    "line": pl.Int64,
}  # the record's place, for people


def records_listing(records: pl.DataFrame, source: Source, root: Path) -> Listing:
    """Return the listing of `records` (columns of SCHEMA, null where nothing is said); paths start at `root`."""
    if records.is_empty():
        raise Refused(f"{source.path} names no image; there is nothing to read.")
    _refuse_gaps(records)
    files = _files(records, root)
    _refuse_repeats(records, files)
    labels = records["label"].str.strip_chars()
    ids, class_names, notes = number_classes(
        dict(labels.value_counts().iter_rows()),
        source.labels,
        given_names(source),
        lambda label: _place_of(records, labels, label),
    )
    rows = plain_files(
        file=files,
        label=labels.replace_strict(ids, return_dtype=pl.Int64),
        split=_splits(records),
        source=_said(records["source"]).fill_null(REAL),
        group=_said(records["group"]),
    )
    return Listing(root=root, rows=rows, class_names=class_names, notes=notes + _unwatched(source))


def place(records: pl.DataFrame, row: int) -> str:
    """Return where record `row` stands, for people."""
    name, line = records.row(row)[-2:]
    return f"{name} line {line}"


def first(mask: pl.Series) -> int | None:
    """Return the first row where `mask` is true, or None."""
    return mask.arg_max() if mask.any() else None


def _place_of(records: pl.DataFrame, labels: pl.Series, label: str) -> str:
    """Return where `label` stands: its first records, each with its image."""
    rows = (labels == label).arg_true()
    places = [f"{place(records, row)} ('{records['path'][row]}')" for row in rows.head(SHOWN)]
    return ", ".join(places) + (f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else "")


def _refuse_gaps(records: pl.DataFrame) -> None:
    for field in ("path", "label"):
        row = first(records[field].is_null() | (records[field].str.strip_chars() == ""))
        if row is not None:
            raise Refused(f"{place(records, row)} has no {field}; each image needs its path and its label.")


def _files(records: pl.DataFrame, root: Path) -> pl.Series:
    normal = [relative_to_root(path, root) for path in records["path"]]
    if None in normal:
        row = normal.index(None)
        raise Refused(
            f"{place(records, row)}: the path '{records['path'][row]}' leads out of {root}; images must lie in it."
        )
    return pl.Series("file", normal, dtype=pl.String)


def _refuse_repeats(records: pl.DataFrame, files: pl.Series) -> None:
    """Refuse an image that is listed twice: in two lists it would leak, with two labels one of them is wrong."""
    again = first(~files.is_first_distinct())
    if again is not None:
        before = first(files == files[again])
        assert before is not None
        labels = sorted({records["label"][before], records["label"][again]})
        also = f", with the labels {' and '.join(labels)}" if len(labels) > 1 else ""
        raise Refused(
            f"{place(records, again)}: '{files[again]}' was already listed at {place(records, before)}{also}; "
            "list each image once."
        )


def _splits(records: pl.DataFrame) -> pl.Series:
    said = _said(records["split"])
    split = said.str.to_lowercase().replace_strict(SPLIT_NAMES, default=None, return_dtype=pl.String)
    row = first(split.is_null() & said.is_not_null())
    if row is not None:
        guess = did_you_mean(said[row], SPLIT_NAMES)
        raise Refused(
            f"{place(records, row)}: '{said[row]}' is no split; it is train, val, test or nothing.{guess}"
        )
    return split


def _unwatched(source: Source) -> tuple[str, ...]:
    """Return a note where the images that the source names can change unseen."""
    if source.path.is_dir():
        return ()
    what = "the images that it names can change unseen until ingest is run again"
    return (f"of {source.path} only this file is watched: {what}; ingest.source may be the folder",)


def _said(texts: pl.Series) -> pl.Series:
    """Return the texts without blanks around them, null where there is nothing."""
    bare = texts.str.strip_chars()
    return bare.set(bare == "", None)
