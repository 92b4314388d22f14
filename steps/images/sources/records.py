"""From the text records of lists and tables to a checked Listing; all splits share one map of labels."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from steps.errors import Refused, did_you_mean
from steps.images.inspection import EXTENSIONS
from steps.images.sources.folders import LEFT_OUT_FOLDERS
from steps.images.sources.label_files import names_in_label_file
from steps.images.sources.labels import number_classes
from steps.images.sources.listing import REAL, SPLIT_NAMES, Listing, Source, plain_files
from steps.images.sources.paths import as_utf8, relative_to_root, walk
from steps.images.sources.similar_names import similar_pairs, similarity

SHOWN = 3
UNREAD_SHOWN = 5
NO_GROUP = (  # what programs write for a missing value; a group of this name would join unrelated images
    "nan", "none", "null", "nil", "<na>", "na", "n/a", "#n/a", "nat", "undefined", "", "-", "--", "?",
)  # fmt: skip
FIELDS = ("path", "label", "source", "group", "split")
SCHEMA = {
    **dict.fromkeys(FIELDS, pl.String),
    "list": pl.String,
    "line": pl.Int64,
}  # `list` and `line` tell people where a record is


def records_listing(
    records: pl.DataFrame, source: Source, root: Path, beforehand: tuple[str, ...] = ()
) -> Listing:
    """Return the listing of `records` (columns of SCHEMA, null for empty fields); paths are relative to `root`.

    `beforehand` are notes about what was not read.
    """
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
        source.alike_names,
    )
    groups = _groups(records)
    rows = plain_files(
        file=files,
        label=labels.replace_strict(ids, return_dtype=pl.Int64),
        split=_splits(records),
        source=_stripped(records["source"]).fill_null(REAL),
        group=groups,
    )
    notes = (
        *beforehand,
        *notes,
        *_merged_by_blanks(records["label"]),
        *_similar_groups(groups),
        *_unlisted(files, source),
        *_unwatched(source),
    )
    return Listing(root=root, rows=rows, class_names=class_names, notes=notes)


def unread_columns(file: str, columns: Mapping[str, pl.Series]) -> tuple[str, ...]:
    """Return a note about the columns of `file` that no param names, each with its first value."""
    if not columns:
        return ()
    shown = [f"{name} (such as '{_first_value(values)}')" for name, values in columns.items()][:UNREAD_SHOWN]
    more = f" and {len(columns) - UNREAD_SHOWN} more" if len(columns) > UNREAD_SHOWN else ""
    return (f"{file}: {len(columns)} column(s) are not read: {', '.join(shown)}{more}; see ingest.columns",)


def _first_value(values: pl.Series) -> str:
    known = values.drop_nulls()
    return "" if known.is_empty() else str(known[0])[:30]


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
    row = first(records["path"].str.contains("\0", literal=True))
    if row is not None:
        raise Refused(f"{place(records, row)}: the path contains a zero byte; save the file as UTF-8 text.")
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


def _groups(records: pl.DataFrame) -> pl.Series:
    """Return the groups; refuse a text that stands for a missing group, as its images would be one group."""
    groups = _stripped(records["group"])
    names = groups.str.to_lowercase().str.strip_chars("\"' ")
    row = first(names.is_in(NO_GROUP).fill_null(value=False))
    if row is not None:
        count = (groups == groups[row]).sum()
        raise Refused(
            f"{place(records, row)}: the group '{groups[row]}' ({count} images) seems to stand for a missing "
            "value. Leave the field empty where an image has no group. If all these images belong together, give "
            "the group another name."
        )
    return groups


def _merged_by_blanks(labels: pl.Series) -> tuple[str, ...]:
    """Return a note if labels are one class only because blanks around a label do not count."""
    merged = labels.n_unique() - labels.str.strip_chars().n_unique()
    if not merged:
        return ()
    return (f"{merged} label(s) differ from another label only in blanks around it, and are one class",)


def _similar_groups(groups: pl.Series) -> tuple[str, ...]:
    pairs = similar_pairs(groups.drop_nulls().unique().to_list())
    if not pairs:
        return ()
    return (f"{len(pairs)} pair(s) of groups have similar names and are different groups: {similarity(pairs[0])}",)


def _unlisted(files: pl.Series, source: Source) -> tuple[str, ...]:
    """Return a note about the images in the folder `source` that no record names."""
    if not source.path.is_dir():
        return ()
    known, unlisted = set(files), []
    for above, folders, names in walk(source.path):
        folders[:] = sorted(name for name in folders if name[0] != "." and name.lower() not in LEFT_OUT_FOLDERS)
        below = Path(above).relative_to(source.path).as_posix()
        images = sorted(name for name in names if f".{name.rpartition('.')[2].lower()}" in EXTENSIONS)
        paths = images if below == "." else [f"{below}/{name}" for name in images]
        unlisted += [path for path in paths if path not in known]
    if not unlisted:
        return ()
    shown = ", ".join(as_utf8(path) for path in unlisted[:SHOWN])
    return (f"{len(unlisted)} image(s) of {source.path} are in no list or table and were left out: {shown}",)


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
